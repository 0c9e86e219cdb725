"""Both losses as sums and counts, so that any number of ranks divides by the same global counts."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from training.flow import target
from training.model import ModelConfig, Prediction
from training.rows import Batch
from training.sequence import NO_TARGET

T_BUCKETS = 5


@dataclass(frozen=True)
class Losses:
    """Losses of one micro-step, n text targets and m learned blocks.

    Attributes:
        text: cross-entropy in nats per target, (n,).
        video: squared error per learned block, averaged over its values, (m,).
        classes: what each target is, by name, bool (n,); "after_eof" looks at the token that
            predicts and overlaps the others, which look at the target.
        t: level of each learned block, (m,).
    """

    text: Tensor
    video: Tensor
    classes: dict[str, Tensor]
    t: Tensor

    def total(
        self,
        text_weight: float = 1.0,
        video_weight: float = 1.0,
        *,
        text_count: Tensor | None = None,
        video_count: Tensor | None = None,
    ) -> Tensor:
        """w_text * CE + w_video * flow loss, each a mean over its own modality.

        Args:
            text_count, video_count: global counts to divide by; this micro-step's own by default.
                A modality that is absent costs nothing, and still reaches its parameters.
        """
        text = self.text.sum() / _at_least_one(text_count, len(self.text))
        video = self.video.sum() / _at_least_one(video_count, len(self.video))
        return text_weight * text + video_weight * video

    def parts(self) -> dict[str, tuple[float, int]]:
        """Sum and count of each loss and of its parts; add over micro-steps, then divide."""
        parts = {"text": self.text, "video": self.video}
        parts |= {f"text/{name}": self.text[chosen] for name, chosen in self.classes.items()}
        bucket = (self.t * T_BUCKETS).long().clamp(max=T_BUCKETS - 1)
        parts |= {f"video/t{i}": self.video[bucket == i] for i in range(T_BUCKETS)}
        return {name: (float(part.detach().sum()), len(part)) for name, part in parts.items()}


def losses(prediction: Prediction, batch: Batch, config: ModelConfig) -> Losses:
    """Compare a prediction with its batch."""
    wanted = target(batch.clean, batch.noise, config.predict)
    error = (prediction.flow - wanted).square().flatten(2).mean(2)
    learned = batch.text[batch.target != NO_TARGET]
    specials = config.specials
    bof, eos = prediction.target == specials.bof, prediction.target == specials.eos
    return Losses(
        text=functional.cross_entropy(prediction.logits, prediction.target, reduction="none"),
        video=error[batch.learn],
        classes={
            "word": ~(bof | eos),
            "bof": bof,
            "eos": eos,
            "after_eof": learned == specials.eof,
        },
        t=batch.t[batch.learn],
    )


def _at_least_one(given: Tensor | None, own: int) -> Tensor | int:
    return max(own, 1) if given is None else given.clamp(min=1)
