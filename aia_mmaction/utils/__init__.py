"""Files and configs, as all parts of the package use them."""
