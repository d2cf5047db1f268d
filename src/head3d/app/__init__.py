"""``head3d app``: a local page that does by hand what ``head3d animate`` and ``head3d view`` do."""
