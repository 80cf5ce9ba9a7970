"""A folder of stems -> one page to listen to, pictures of them, and a report."""
