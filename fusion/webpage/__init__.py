"""The page in the browser: what it computes (without Gradio), how it looks, how it is served."""
