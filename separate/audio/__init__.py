"""Files of sound: the only place that reads or writes them."""
