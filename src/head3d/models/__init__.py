"""Networks of Head3D; they know nothing of parameters or tracking, and of files only public weights."""
