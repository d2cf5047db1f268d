"""From videos to clips: fetch, crop, parse, and the store that everything after reads from."""
