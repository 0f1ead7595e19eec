"""Embedders: backbones with their weights and input conventions, pooling and head."""

from dml.models.backbones import TorchvisionBackbone, torchvision_embedder
from dml.models.bninception import BNInception, bninception_embedder
from dml.models.convnet import ConvNet, convnet_embedder
from dml.models.embedder import Backbone, Embedder
from dml.models.preprocessing import Preprocessing

__all__ = [
    "BNInception",
    "Backbone",
    "ConvNet",
    "Embedder",
    "Preprocessing",
    "TorchvisionBackbone",
    "bninception_embedder",
    "convnet_embedder",
    "torchvision_embedder",
]
