"""Base class of the losses: the mean over anchors of a function of each anchor's row of similarities."""

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
        label: (Q,), classes of the anchors, for losses with parameters per class; None if unknown.
        self_index: (Q,), positions of the anchors among the references, for random minings; None if no anchor is
            among them.
        seed: seed of random minings; None for new draws at each call.
        ref_label: (R,), classes of the references, for losses with a margin per pair of classes; None if unknown.
    """

    positive: Bool[Tensor, "Q R"]
    negative: Bool[Tensor, "Q R"]
    label: Int[Tensor, "Q"] | None = None
    self_index: Int[Tensor, "Q"] | None = None
    seed: int | None = None
    ref_label: Int[Tensor, "R"] | None = None


def label_pairs(
    labels: Int[Tensor, "Q"], ref_labels: Int[Tensor, "R"], self_index: Int[Tensor, "Q"] | None
) -> Pairs:
    """All pairs of anchors and references except self-pairs, which are excluded by index.

    Args:
        labels: (Q,) classes of the anchors.
        ref_labels: (R,) classes of the references.
        self_index: (Q,) position of each anchor among the references, or None if none is among them.
    """
    same_QR = labels[:, None] == ref_labels[None, :]
    negative_QR = ~same_QR
    if self_index is not None:
        same_QR = same_QR.scatter(1, self_index[:, None], False)
    return Pairs(same_QR, negative_QR, labels, self_index, ref_label=ref_labels)


def check_references(
    embeddings: Float[Tensor, "B D"],
    labels: Int[Tensor, "B"],
    ref_embeddings: Float[Tensor, "R D"] | None,
    ref_labels: Int[Tensor, "R"] | None,
) -> tuple[Float[Tensor, "N D"], Int[Tensor, "N"]]:
    """The references and their classes; the batch itself if none are given.

    Raises:
        ValueError: the batch is empty, there are no references, only one of `ref_embeddings` and `ref_labels` is
            given, or there is not one integer label for each embedding.
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
    """A loss that is the mean over anchors of a function of each anchor's row of cosine similarities.

    A subclass implements `per_anchor` only. Because the rows are independent, General Pair Weighting (Wang et al.,
    CVPR 2019, section 3), gradients across processes, memories and proxies work for every loss. All arithmetic is
    in float32 (float64 stays float64), outside autocast.

    Attributes:
        chunk: number of anchors whose similarities are in memory at a time. "auto" limits the memory: it takes all
            anchors of an ordinary batch at once, and fewer of a very large one. None takes all. Value and gradient
            do not depend on it, up to rounding; rounding can decide which of two copies of an image is the hardest
            pair. With a random mining this holds only if `seed` is set and the anchors are among the references.
        seed: seed of random minings, to be changed at each step. If it is the same on every process, each process
            draws for its own anchors what a single process would draw. None uses torch's global generator.
    """

    chunk: Chunk = "auto"
    seed: int | None = None

    def per_anchor(self, similarity: Float[Tensor, "Q R"], pairs: Pairs) -> Float[Tensor, "Q"]:
        """Loss of each anchor, (Q,), from its row of cosine similarities, (Q, R), and its pairs.

        An anchor without a mined pair must give zero.
        """
        raise NotImplementedError

    def prepare(self, references: Float[Tensor, "R D"], ref_labels: Int[Tensor, "R"]) -> None:
        """Note what the rows need of all references together, such as distances of classes; called before the rows.

        All processes and chunks have the same references, so what follows from them alone is the same for all.

        Args:
            references: (R, D), not normalised.
            ref_labels: (R,) their classes.
        """

    def forward(
        self,
        embeddings: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"],
        ref_embeddings: Float[Tensor, "R D"] | None = None,
        ref_labels: Int[Tensor, "R"] | None = None,
        self_index: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean loss over all anchors; an anchor without a mined pair counts as zero.

        Args:
            embeddings: (B, D) embeddings of the anchors; L2-normalised here.
            labels: (B,) their classes.
            ref_embeddings: (R, D) references to compare with (memory, other processes, proxies); None
                compares the batch with itself.
            ref_labels: (R,) classes of the references; required with `ref_embeddings`.
            self_index: (B,) position of each anchor among the references; None if no anchor is among them.
                Used only with `ref_embeddings`.

        Raises:
            ValueError: as in `check_references`.
            UserError: `chunk` is out of range.
        """
        references, label_R = check_references(embeddings, labels, ref_embeddings, ref_labels)
        labels, label_R = labels.long(), label_R.long()  # shorter integers do not index a parameter
        if ref_embeddings is None:
            self_index = torch.arange(len(labels), device=labels.device)

        def rows(similarity: Tensor, part: slice) -> Tensor:
            own = None if self_index is None else self_index[part]
            pairs = label_pairs(labels[part], label_R, own)._replace(seed=self.seed)
            # Comparisons with NaN are false, so mining drops NaN pairs. The sum keeps the loss NaN instead of 0.
            return self.per_anchor(similarity, pairs) + 0 * similarity.detach().sum(dim=1)

        with torch.autocast(embeddings.device.type, enabled=False):
            z_QD, z_RD = widened(embeddings, None if references is embeddings else references)
            self.prepare(z_QD if z_RD is None else z_RD, label_R)
            count = anchors_at_a_time(self.chunk, len(z_QD), len(label_R), z_QD.itemsize)
            if count == len(z_QD):
                return rows(cosine_similarity(z_QD, z_RD), slice(None)).mean()
            parameters = [p for p in self.parameters() if p.requires_grad]
            return mean_in_chunks(rows, count, z_QD, z_RD, parameters)
