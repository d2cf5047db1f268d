"""What a run is judged by: tables, figures and the page that shows them."""
