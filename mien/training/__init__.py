"""From a recipe and a FaceSet to a trained network: needs torch (``pip install 'mien[train]'``)."""
