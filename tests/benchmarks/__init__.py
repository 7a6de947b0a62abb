"""What a request costs, against bare Flask and a peer; `make bench` runs it."""
