"""Pictures and videos: names, bytes, pixels, and where texts speak of them."""
