"""What demo.py is made of. Only Python's own library; nothing of this is sent."""
