"""Certificates of a cluster: whose they are, how they are made, what is wrong with them.

What makes or reads certificates needs the package `cryptography` (the extra `secure`) and imports it when it
is called: whoever uses no TLS needs none of it, and clients with TLS neither.
"""
