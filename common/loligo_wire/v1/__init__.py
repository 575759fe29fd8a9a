"""Version 1 of what clients and metadata servers say to each other: `loligo.proto`, and `loligo_pb2` generated from it
by `make proto`.
"""
