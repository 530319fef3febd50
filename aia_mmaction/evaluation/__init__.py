"""What a model predicted: dumps of `mim test`, and what is made of them."""
