"""Torchvision's convolutional classification networks as backbones, by name."""

import copy
import warnings
from difflib import get_close_matches

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import WeightsEnum

from dml.errors import UserError
from dml.models.embedder import Backbone, Embedder
from dml.models.preprocessing import Preprocessing
from dml.models.weights import Published, load_weights


class ChildrenTracer(fx.Tracer):
    """Traces a network's `forward` with its children as leaves, so they keep their own training behaviour."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def only_pools(node: fx.Node, network: nn.Module) -> bool:
    """Whether a step between feature map and classifier only pools, flattens or applies dropout."""
    if node.op == "call_module":
        step = network.get_submodule(str(node.target))
        return isinstance(step, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Dropout)
    return node.target in (F.adaptive_avg_pool2d, torch.flatten, "flatten", "mean")


def feature_extractor(network: nn.Module) -> fx.GraphModule:
    """A classification network up to its last feature map, without pooling and classifier.

    The cut is found in the traced `forward`: it starts at the classifier, which is the last child, and moves back
    over steps that only pool. Operations between children, such as DenseNet's last ReLU, are kept. Parameters keep
    their names.

    Args:
        network: a network of `torchvision.models`.
    """
    # In training mode some networks return the outputs of auxiliary classifiers too.
    graph = ChildrenTracer().trace(network.eval())
    *_, (classifier, _) = network.named_children()
    called = next(node for node in graph.nodes if node.op == "call_module" and node.target == classifier)
    cut = called.all_input_nodes[0]
    while only_pools(cut, network):
        cut = cut.all_input_nodes[0]
    graph.output_node().args = (cut,)
    steps = list(graph.nodes)
    for node in reversed(steps[steps.index(cut) + 1 : -1]):
        graph.erase_node(node)
    return fx.GraphModule(network, graph)


def published_weights(name: str) -> WeightsEnum:
    """The first ImageNet weights that torchvision published for a network; the literature used these.

    Raises:
        UserError: torchvision has no classification network of this name.
    """
    names = models.list_models(module=models)
    if name not in names:
        close = ", ".join(get_close_matches(name, names)) or "resnet50, squeezenet1_0, …"
        raise UserError(
            f"torchvision has no classification network {name!r} (model.name): did you mean {close}?"
        )
    return next(iter(models.get_model_weights(name)))


class TorchvisionBackbone(Backbone):
    """The features of a torchvision classification network, before its pooling and classifier.

    Args:
        name: torchvision's name of the network, for example "resnet50".

    Attributes:
        features: the network; its keys are those of torchvision's checkpoints.
        classifier_keys: the keys of such a checkpoint that `features` does not have.

    Raises:
        UserError: there is no such network, or it has no feature map (vision transformers with a class token).
    """

    def __init__(self, name: str) -> None:
        published_weights(name)
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about the random weights of GoogLeNet
            network = models.get_model(name, weights=None)
        # GoogLeNet and Inception v3 were trained with another mean; torchvision sets this only with its weights.
        if hasattr(network, "transform_input"):
            network.transform_input = True
        self.features = feature_extractor(network)
        self.classifier_keys = network.state_dict().keys() - self.features.state_dict().keys()
        # The meta device computes shapes only.
        maps = copy.deepcopy(self.features).to("meta")(torch.empty(1, 3, 224, 224, device="meta"))
        if maps.ndim != 4:
            raise UserError(
                f"model.name={name} has no feature map to pool: choose a convolutional network, or for "
                "a vision transformer model=timm model.name=vit_base_patch16_224."
            )
        self.out_channels = maps.shape[1]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F h w"]:
        return self.features(images)


def torchvision_embedder(
    name: str,
    embedding_dim: int | None = 512,
    pool: str = "mean",
    weights: str | None = "imagenet",
    freeze_batchnorm: bool = True,
) -> Embedder:
    """An embedder on a torchvision classification network.

    Args:
        name: torchvision's name of the network, for example "resnet50".
        embedding_dim, pool, freeze_batchnorm: as in `Embedder`.
        weights: as in `load_weights`; a file holds a state dict of torchvision's network.

    Raises:
        UserError: as in `TorchvisionBackbone`, `load_weights` and `Embedder`.
    """
    backbone = TorchvisionBackbone(name)
    published = published_weights(name)
    convention = published.transforms()
    preprocessing = Preprocessing(convention.mean, convention.std)
    embedder = Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
    load_weights(backbone.features, weights, Published(published.url, backbone.classifier_keys), embedder)
    return embedder
