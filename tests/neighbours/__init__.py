"""The library beside other extensions of Flask, and beside Flask's own less common ways."""
