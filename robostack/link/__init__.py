"""The ZMQ link between a node and its clients."""
