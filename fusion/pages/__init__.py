"""Web pages of one file each, which need no network: reports of runs, leaderboards."""

from fusion.pages.page import Picture, Section, Table, figure, image_file, small_picture, write_page

__all__ = ["Picture", "Section", "Table", "figure", "image_file", "small_picture", "write_page"]
