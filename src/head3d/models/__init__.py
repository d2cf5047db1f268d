"""Networks of Head3D; they know nothing of files, parameters or tracking."""
