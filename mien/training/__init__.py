"""Train a network on a FaceSet as a recipe says. Needs torch (``pip install 'mien[train]'``)."""
