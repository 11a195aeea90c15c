"""Train the pocket model: ``python -m skillneurons.pocket.train --minutes 60 -o DIR``.

A Qwen2-architecture causal LM is trained on the text of ``corpus.py`` with the loss on answers
alone. Between question and answer stand 0 to 24 filler positions (random vocabulary rows plus noise
on their embeddings; at most 6 in the first part), so that an appended soft prompt later finds a model
that carries its answer across such positions. Hidden matrices take Muon steps, everything else AdamW; one cosine schedule.

Training can go on from a folder (``--start``): another seed gives other text, ``--rate`` scales the learning rates,
``--batch`` changes how many examples of a kind a step has.

Every step trains on one batch of each of the four kinds. The result is written as a folder in the
form of ``save_pretrained``: bf16 safetensors, config, tokenizer and ``training.json`` (for each part of the
training: seed, steps, batch sizes, loss by kind, versions).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from skillneurons.pocket.corpus import KINDS, training_examples
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"  # digits stand alone, as in Qwen2
BATCH = {"open": 96, "verification": 112, "nli": 64, "skillmix": 8}
WEIGHT = {"open": 0.30, "verification": 0.32, "nli": 0.27, "skillmix": 0.11}
MAX_FILLER = 24
EARLY_FILLER = 6  # at most so many in the first part of the training, which is cheaper and learns sooner
EARLY = 0.55
NO_LOSS = -100
CONFIG = {
    "hidden_size": 192,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def train_tokenizer(seed: int, vocab_size: int = 1536, n_per_kind: int = 4000) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (any text can be written) whose digits are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = []
    for kind in KINDS:
        stream = training_examples(kind, seed)
        texts += [f"{example.prompt}\n{example.target}" for example, _ in zip(stream, range(n_per_kind), strict=False)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=1024
    )


class Batches:
    """Batches of one kind: token ids, filler mask and labels, all of shape (batch, length)."""

    def __init__(self, kind: str, tokenizer: PreTrainedTokenizerFast, seed: int, size: int) -> None:
        self.kind, self.tokenizer, self.size = kind, tokenizer, size
        self.examples = training_examples(kind, seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.max_filler = EARLY_FILLER

    def rows(self, n_filler: int) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """Yield ids, filler mask and labels of the next examples; a choice carries no end of text."""
        examples = [next(self.examples) for _ in range(self.size)]
        questions = self.tokenizer([example.prompt for example in examples])["input_ids"]
        answers = self.tokenizer([example.target for example in examples])["input_ids"]
        for example, question, answer in zip(examples, questions, answers, strict=True):
            end = [self.tokenizer.eos_token_id] if example.choices is None else []
            filler = torch.randint(0, len(self.tokenizer), (n_filler,), generator=self.generator).tolist()
            ids = question + filler + answer + end
            mask = [0] * len(question) + [1] * n_filler + [0] * len(answer + end)
            yield ids, mask, [NO_LOSS] * (len(question) + n_filler) + answer + end

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        while True:
            rows = list(self.rows(int(torch.randint(0, self.max_filler + 1, (), generator=self.generator))))
            longest = max(len(ids) for ids, _, _ in rows)
            padded = [
                (
                    ids + [0] * (longest - len(ids)),
                    mask + [0] * (longest - len(ids)),
                    labels + [NO_LOSS] * (longest - len(ids)),
                )
                for ids, mask, labels in rows
            ]
            ids_, mask_, labels_ = zip(*padded, strict=True)
            yield torch.tensor(ids_), torch.tensor(mask_, dtype=torch.bool), torch.tensor(labels_)


def answer_loss(
    model: Qwen2ForCausalLM, ids: torch.Tensor, filler: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the mean cross-entropy (nats) of the answer tokens, with noise on the filler embeddings.

    The vocabulary projection runs on answer rows only. Padding stands after the answer, where a
    causal model cannot see it, so no mask is needed.
    """
    embeddings = model.model.embed_tokens(ids)  # (B, T, d_model)
    spread = embeddings.detach().pow(2).mean().sqrt()
    scale = 2 * torch.rand(ids.shape[0], 1, 1, generator=generator).to(ids.device)
    noise = torch.randn(embeddings.shape, generator=generator).to(ids.device) * spread * scale
    embeddings = embeddings + noise * filler[..., None]
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        keep = labels[:, 1:] != NO_LOSS  # a position predicts the next token
        logits = model.lm_head(hidden[:, :-1][keep])  # (answer tokens, vocabulary)
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][keep])


def learning_rate(progress: float, warmup: float = 0.02) -> float:
    """Return the factor on the learning rate at ``progress`` in [0, 1]: warm-up, then a cosine to 0.02."""
    if progress < warmup:
        return progress / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def begin(seed: int, config: dict[str, Any]) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Return a model with random weights and a tokenizer trained on the start of the text."""
    tokenizer = train_tokenizer(seed)
    eos = tokenizer.eos_token_id
    made = Qwen2Config(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=eos, pad_token_id=eos, **config)
    return Qwen2ForCausalLM(made), tokenizer


def train(
    out: Path,
    seed: int,
    minutes: float | None,
    steps: int,
    device: str,
    config: dict[str, Any],
    *,
    start: Path | None = None,
    rate: float = 1.0,
    batch: Mapping[str, int] = BATCH,
) -> None:
    """Train for ``steps`` steps, or for ``minutes`` (the schedule follows the clock), and save to ``out``."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    before: list[dict[str, Any]] = []
    if start is None:
        model, tokenizer = begin(seed, config)
    else:
        model = Qwen2ForCausalLM.from_pretrained(start, dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
        before = json.loads((start / "training.json").read_text())
    model = model.to(device)
    batches = {kind: Batches(kind, tokenizer, seed, batch[kind]) for kind in KINDS}
    streams = {kind: iter(batch) for kind, batch in batches.items()}
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    started, step, losses = time.monotonic(), 0, dict.fromkeys(KINDS, float("nan"))
    out.mkdir(parents=True, exist_ok=True)
    while True:
        elapsed = (time.monotonic() - started) / 60
        progress = elapsed / minutes if minutes else step / steps if steps else 1.0  # no steps: random weights
        if progress >= 1:
            break
        for base, optimizer in zip(rates, optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = base * rate * learning_rate(progress)
        for kind in KINDS:
            batches[kind].max_filler = EARLY_FILLER if progress < EARLY and start is None else MAX_FILLER
            ids, filler, labels = (t.to(device) for t in next(streams[kind]))
            loss = answer_loss(model, ids, filler, labels, generator)
            (loss * WEIGHT[kind]).backward()  # type: ignore[no-untyped-call]
            smooth = losses[kind]
            losses[kind] = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            shown = " ".join(f"{kind} {value:.4f}" for kind, value in losses.items())
            print(f"step {step} minute {elapsed:.1f} {shown}", flush=True)
        if step % 500 == 0:
            save(model, tokenizer, out)
    save(model, tokenizer, out)
    record = {
        "seed": seed,
        "steps": step,
        "batch": dict(batch),
        "rate": rate,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "loss": losses,
        "device": platform.processor() or device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (out / "training.json").write_text(json.dumps([*before, record], indent=2) + "\n")


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights (bf16 safetensors), config and tokenizer; training goes on in float32."""
    copy = Qwen2ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=None, help="train by the clock instead of by steps")
    parser.add_argument("--steps", type=int, default=3600, help="0 saves the random weights it would begin with")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, default=CONFIG["hidden_size"])
    parser.add_argument("--start", type=Path, help="go on from the model of this folder")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--batch", default="", metavar="KIND=N,...", help=f"examples per step; default: {BATCH}")
    arguments = parser.parse_args()
    given = dict(part.split("=") for part in arguments.batch.split(",") if part)
    unknown = sorted(set(given) - set(BATCH))
    if unknown or not all(size.isdecimal() and int(size) > 0 for size in given.values()):
        parser.error(f"--batch {arguments.batch}: write KIND=N with {', '.join(BATCH)} and whole numbers")
    train(
        arguments.out,
        arguments.seed,
        arguments.minutes,
        arguments.steps,
        arguments.device,
        CONFIG | {"hidden_size": arguments.hidden},
        start=arguments.start,
        rate=arguments.rate,
        batch=BATCH | {kind: int(size) for kind, size in given.items()},
    )


if __name__ == "__main__":
    main()
