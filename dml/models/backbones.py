"""Any of torchvision's classification networks as a backbone, by name."""

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
    """Writes down a network's own `forward`; its children stay whole, training behaviour and all."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def only_pools(node: fx.Node, network: nn.Module) -> bool:
    """Whether a step between feature map and classifier only pools, flattens or drops out."""
    if node.op == "call_module":
        step = network.get_submodule(str(node.target))
        return isinstance(step, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Dropout)
    return node.target in (F.adaptive_avg_pool2d, torch.flatten, "flatten", "mean")


def feature_extractor(network: nn.Module) -> fx.GraphModule:
    """A classification network up to the last map that its classifier, or the pooling before it, takes.

    Found in the network's own `forward`: the classifier is its last child, and from there the cut moves back
    over all that only pools. What `forward` does between children, such as DenseNet's last ReLU, is kept, and
    parameters keep their names.

    Args:
        network: a network of `torchvision.models`.
    """
    # In training, some networks return auxiliary classifiers too.
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
    """The first ImageNet weights published for a network, those that the literature used.

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
        classifier_keys: the keys of such a checkpoint that the features leave out.

    Raises:
        UserError: no such network, or one whose features are no map (vision transformers with a class token).
    """

    def __init__(self, name: str) -> None:
        published_weights(name)
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about the random weights of GoogLeNet
            network = models.get_model(name, weights=None)
        # GoogLeNet and Inception v3 were trained on another mean; torchvision does so with its weights only.
        if hasattr(network, "transform_input"):
            network.transform_input = True
        self.features = feature_extractor(network)
        self.classifier_keys = network.state_dict().keys() - self.features.state_dict().keys()
        # On the meta device nothing is computed but shapes.
        maps = copy.deepcopy(self.features).to("meta")(torch.empty(1, 3, 224, 224, device="meta"))
        if maps.ndim != 4:
            raise UserError(f"model.name={name} has no feature map to pool: choose a convolutional network.")
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
        weights: as in `load_weights`; a file is a state dict of torchvision's whole network.
    """
    backbone = TorchvisionBackbone(name)
    published = published_weights(name)
    load_weights(backbone.features, weights, Published(published.url, backbone.classifier_keys))
    convention = published.transforms()
    preprocessing = Preprocessing(convention.mean, convention.std)
    return Embedder(backbone, preprocessing, embedding_dim, pool, freeze_batchnorm)
