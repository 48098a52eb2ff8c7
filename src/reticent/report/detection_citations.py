"""BibTeX of what detection rests on."""

DETECTION_CITATIONS = (
    """\
@misc{zhou2019objects,
  title  = {Objects as Points},
  author = {Zhou, Xingyi and Wang, Dequan and Krähenbühl, Philipp},
  year   = {2019},
  eprint = {1904.07850},
  archiveprefix = {arXiv}
}""",
    """\
@inproceedings{lin2014microsoft,
  title     = {Microsoft {COCO}: Common Objects in Context},
  author    = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva and Dollár, Piotr and Zitnick, C. Lawrence},
  booktitle = {Computer Vision -- ECCV 2014},
  pages     = {740--755},
  year      = {2014},
  doi       = {10.1007/978-3-319-10602-1_48}
}""",  # noqa: E501
    """\
@misc{ziller2019oktoberfest,
  title  = {Oktoberfest Food Dataset},
  author = {Ziller, Alexander and Hansjakob, Julius and Rusinov, Vitalii and Zügner, Daniel and Vogel, Peter and Günnemann, Stephan},
  year   = {2019},
  eprint = {1912.05007},
  archiveprefix = {arXiv}
}""",  # noqa: E501
)
"""The detector and its loss, average precision, and the counting metric."""
