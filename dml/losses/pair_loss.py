"""The rule of every pair-based loss: a function of one row of a similarity matrix at a time."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dml.losses.chunks import Chunk, anchors_at_a_time, mean_in_chunks
from dml.losses.labels import check_label_each
from dml.losses.similarity import cosine_similarity, widened


class Pairs(NamedTuple):
    """Which entries of a similarity matrix are positive and which negative pairs.

    Attributes:
        positive: (Q, R), true where anchor and reference share a class and are not the same image.
        negative: (Q, R), true where their classes differ.
        label: (Q,), the anchors' classes, for losses with parameters per class; None where unknown.
        self_index: (Q,), the anchors' positions among the references, for a mining that draws at random; None where
            there are none.
        seed: of the draws of such a mining; None for fresh draws each time.
    """

    positive: Bool[Tensor, "Q R"]
    negative: Bool[Tensor, "Q R"]
    label: Int[Tensor, "Q"] | None = None
    self_index: Int[Tensor, "Q"] | None = None
    seed: int | None = None


def label_pairs(
    labels: Int[Tensor, "Q"], ref_labels: Int[Tensor, "R"], self_index: Int[Tensor, "Q"] | None
) -> Pairs:
    """All pairs of anchors and references, the pair of an image with itself left out by index.

    Args:
        labels: (Q,) classes of the anchors.
        ref_labels: (R,) classes of the references.
        self_index: (Q,) position of each anchor among the references, or None if none is among them.
    """
    same_QR = labels[:, None] == ref_labels[None, :]
    negative_QR = ~same_QR
    if self_index is not None:
        same_QR = same_QR.scatter(1, self_index[:, None], False)
    return Pairs(same_QR, negative_QR, labels, self_index)


def check_references(
    embeddings: Float[Tensor, "B D"],
    labels: Int[Tensor, "B"],
    ref_embeddings: Float[Tensor, "R D"] | None,
    ref_labels: Int[Tensor, "R"] | None,
) -> tuple[Float[Tensor, "N D"], Int[Tensor, "N"]]:
    """The references and their classes: the given ones, or the batch itself.

    Raises:
        ValueError: the batch is empty, there are no references, only one of `ref_embeddings` and `ref_labels` is
            given, or labels are not one whole number for each embedding.
    """
    if len(embeddings) == 0:
        raise ValueError("The batch is empty: a loss needs at least one embedding.")
    check_label_each("labels", labels, len(embeddings))
    if ref_embeddings is None and ref_labels is None:
        return embeddings, labels
    if ref_embeddings is None or ref_labels is None:
        raise ValueError("Give ref_embeddings and ref_labels together, or neither.")
    if len(ref_embeddings) == 0:
        raise ValueError("There are no references: ref_embeddings is empty.")
    check_label_each("ref_labels", ref_labels, len(ref_embeddings))
    return ref_embeddings, ref_labels


class PairLoss(nn.Module):
    """A loss on cosine similarities that is the mean over anchors of a function of each anchor's row.

    A subclass writes `per_anchor` only. The rule is what makes General Pair Weighting (Wang et al., CVPR
    2019, section 3), gradients across processes, memories and proxies work for every loss alike.
    All arithmetic is in float32 (float64 stays float64), outside autocast.

    Attributes:
        chunk: anchors whose similarities are in memory at a time; "auto" for all in an ordinary batch and a bounded
            number in a very large one, None for all. Value and gradient do not depend on it but for rounding, which
            may decide between similarities that are equal up to it, as of two copies of an image where only the
            hardest pair counts. Of a mining that draws at random that holds with a `seed`, where the anchors are
            among the references.
        seed: of a mining that draws at random, to be changed from step to step: the same on every process, it
            lets each draw for its own anchors what one process would. None takes torch's random numbers.
    """

    chunk: Chunk = "auto"
    seed: int | None = None

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        """Loss of each anchor, (Q,), from its row of cosine similarities, (Q, R), and its pairs.

        An anchor without a surviving pair must give zero.
        """
        raise NotImplementedError

    def rows(
        self,
        similarity: Float[Tensor, "Q R"],
        labels: Int[Tensor, "Q"],
        ref_labels: Int[Tensor, "R"],
        self_index: Int[Tensor, "Q"] | None,
    ) -> Float[Tensor, "Q"]:
        """Loss of each anchor from its similarities with the references; arguments as in `forward`."""
        pairs = label_pairs(labels, ref_labels, self_index)._replace(seed=self.seed)
        loss_Q = self.per_anchor(similarity, pairs)
        # A NaN compares false and survives no mining: without this term it would pass for a loss of 0.
        return loss_Q + 0 * similarity.detach().sum(dim=1)

    def forward(
        self,
        embeddings: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"],
        ref_embeddings: Float[Tensor, "R D"] | None = None,
        ref_labels: Int[Tensor, "R"] | None = None,
        self_index: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean loss over the anchors, those without a surviving pair included as zeros.

        Args:
            embeddings: (B, D) embeddings of the anchors; L2-normalised here if they are not already.
            labels: (B,) their classes.
            ref_embeddings: (R, D) references to compare with (memory, other processes, proxies); None
                compares the batch with itself.
            ref_labels: (R,) classes of the references; given exactly when `ref_embeddings` is.
            self_index: (B,) position of each anchor among the references; None where no anchor is among them.
                Only with `ref_embeddings`.

        Raises:
            ValueError: as `check_references`.
        """
        references, label_R = check_references(embeddings, labels, ref_embeddings, ref_labels)
        if ref_embeddings is None:
            self_index = torch.arange(len(labels), device=labels.device)
        with torch.autocast(embeddings.device.type, enabled=False):
            z_QD, z_RD = widened(embeddings, None if references is embeddings else references)
            count = anchors_at_a_time(self.chunk, len(z_QD), len(label_R), z_QD.itemsize)
            if count == len(z_QD):
                return self.rows(cosine_similarity(z_QD, z_RD), labels, label_R, self_index).mean()

            def rows(similarity: Tensor, part: slice) -> Tensor:
                own = None if self_index is None else self_index[part]
                return self.rows(similarity, labels[part], label_R, own)

            parameters = [p for p in self.parameters() if p.requires_grad]
            return mean_in_chunks(rows, count, z_QD, z_RD, parameters)
