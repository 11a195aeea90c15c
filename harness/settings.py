"""The settings of a run: names, types, bounds, defaults and one line on each, which help, schema and pages are made from.

A section is frozen and strict: a setting that it does not know is a fault, and a value is never turned into another type.
What a value can be is in ``setting_types``, which values cannot go together in ``contradictions``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from skillneurons.contradictions import contradictions
from skillneurons.form import MOST
from skillneurons.setting_types import DEVICE, UNIQUE, Count, Different, Number, Positive, Seed, Text, about, different

AT_ONCE, AT_MOST = 64, 1024  # examples, with batch_size auto


class Section(BaseModel):
    """Base of all sections: unknown settings are faults, types are strict, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelSettings(Section):
    """How a model is loaded."""

    revision: Annotated[Text | None, about("Revision of a hub model: a branch, a tag or a commit.")] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], about("What the model computes in; statistics are always float64.")
    ] = "float32"
    chat_template: Annotated[
        Literal["auto", "on", "off"],
        about("Whether the chat template stands around each input; auto: where the model is tuned for chat."),
    ] = "auto"
    trust_remote_code: Annotated[bool, about("Whether code that comes with a hub model may run.")] = False
    too_long: Annotated[
        Literal["refuse", "truncate"],
        about("What becomes of an input longer than the model's context: an error, or cut from the left."),
    ] = "refuse"
    ffn: Annotated[
        Text | None,
        about("Where the feed-forward neurons are, as in mlp.down_proj, for an architecture that cannot be told."),
    ] = None
    device_map: Annotated[
        Literal["auto", "balanced", "balanced_low_0", "sequential"]
        | Annotated[dict[Text, Annotated[int, Field(ge=0)] | Text], Field(min_length=1)]
        | None,
        about(
            "How a model is spread over several devices (accelerate), or a mapping from modules to GPUs, cpu or disk; device stays auto."
        ),
    ] = None
    max_memory: Annotated[
        dict[Text, Text] | None,
        about("The most that device_map may place on each device, by number or cpu, as in {0: 20GiB, cpu: 60GiB}."),
    ] = None
    tp_plan: Annotated[
        Literal["auto"] | None,
        about(
            "Whether every layer is split over the processes that torchrun started, by transformers' plan for the model."
        ),
    ] = None
    quantization: Annotated[
        Literal["8bit", "4bit"] | None, about("Weights of 8 or 4 bits (bitsandbytes); the rest stays in dtype.")
    ] = None

    @field_validator("max_memory", mode="before")
    @classmethod
    def _numbered(cls, value: Any) -> Any:
        """A GPU's number may be written as a number."""
        return {str(k) if type(k) is int else k: v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("chat_template", mode="before")
    @classmethod
    def _yaml_on_off(cls, value: Any) -> Any:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class PromptSettings(Section):
    """The soft prompt and its tuning; the defaults are the paper's."""

    num_virtual_tokens: Annotated[Positive, about("Length of the soft prompt in tokens.")] = 20
    prompt_tuning_init: Annotated[
        Literal["SAMPLE_VOCAB", "TEXT", "RANDOM"],
        about("Where tuning begins: embeddings of drawn vocabulary, of a text, or random numbers."),
    ] = "SAMPLE_VOCAB"
    prompt_tuning_init_text: Annotated[str | None, about("The text that tuning begins with, for TEXT alone.")] = None
    placement: Annotated[
        Literal["append", "prepend"],
        about("Where the prompt stands: after the input, or before it (a comparison, for input_last alone)."),
    ] = "append"
    steps: Annotated[Count, about("Steps of tuning at most; 0 keeps the prompt as it begins.")] = 500
    lr: Annotated[Number, about("Learning rate of AdamW.", gt=0)] = 1e-3
    betas: Annotated[
        list[Annotated[Number, Field(ge=0, lt=1)]], about("The two betas of AdamW.", min_length=2, max_length=2)
    ] = [0.9, 0.999]
    weight_decay: Annotated[Number, about("Weight decay of AdamW.", ge=0)] = 0.01
    batch_size: Annotated[Positive, about("Examples per step of tuning.")] = 32
    eval_every: Annotated[Positive, about("Steps from one validation loss to the next.")] = 50
    patience: Annotated[Positive, about("Validations without a better loss after which tuning stops.")] = 5


class DataSettings(Section):
    """How many examples each split may have, and the seed they are drawn with."""

    seed: Annotated[Seed, about("Seed that examples are drawn with.")] = 0
    train: Annotated[Positive, about("Examples at most to tune the prompt on.")] = 1000
    validation: Annotated[Positive, about("Examples at most to choose the best prompt on.")] = 200
    discovery: Annotated[Positive, about("Examples at most to choose neurons on.")] = 1000
    heldout: Annotated[Positive, about("Examples at most to measure the chosen neurons on again.")] = 500


class AttributionSettings(Section):
    """Where activations are read, how they are scored, and how sure the scores are."""

    position: Annotated[
        Literal["last", "max", "mean", "input_last"],
        about(
            "Where activations are read: the last, strongest or mean prompt token, or the input's last without a prompt."
        ),
    ] = "last"
    site: Annotated[
        Literal["product", "gate"],
        about("What is read in a gated block: what goes into the output projection, or the gate's activation alone."),
    ] = "product"
    statistic: Annotated[Text, about("How activation and metric are related: see skillneurons list attributions.")] = (
        "pearson"
    )
    batch_size: Annotated[
        Positive | Literal["auto"], about(f"Examples at once; auto begins at {AT_ONCE} and takes what fits.")
    ] = "auto"
    permutations: Annotated[Count, about("Permutations of the null; 0: none.")] = 200
    bootstrap: Annotated[Count, about("Resamples of the intervals; 0: none.")] = 1000
    seed: Annotated[Count, about("Seed of permutations and resamples.")] = 0
    top_k: Annotated[Positive, about("How many of the strongest neurons the table's figures are about.")] = 10
    thresholds: Annotated[
        list[Annotated[Number, Field(gt=0)]],
        about("Levels of |effect| at which neurons are counted.", json_schema_extra=UNIQUE),
        Different,
    ] = [0.43, 0.83]
    nuisance: Annotated[
        list[Text],
        about("Columns that partial r holds constant, for the tasks that have them.", json_schema_extra=UNIQUE),
        Different,
    ] = ["heuristics.prompt_length"]

    @property
    def at_once(self) -> int:
        """How many examples run at once to begin with."""
        return AT_ONCE if isinstance(self.batch_size, str) else self.batch_size

    @property
    def at_most(self) -> int:
        """How many may run at once where memory allows it."""
        return AT_MOST if isinstance(self.batch_size, str) else self.batch_size


class CacheSettings(Section):
    """How much memory the keys and values of inputs may take: on the model's device, and in host memory beyond that.

    Half of it is for tuning (train and validation), half for measuring (discovery and heldout); what finds no room is run again
    each time, and 0 for both runs all inputs again.
    """

    device_gb: Annotated[Number, about("Gigabytes on the model's device for keys and values of inputs.", ge=0)] = 2.0
    host_gb: Annotated[Number, about("Gigabytes of host memory for what finds no room there.", ge=0)] = 4.0


class CausalSettings(Section):
    """Ablation and steering of the neurons found: which columns, how many neurons, against how many random sets.

    ``examples`` of heldout are measured, ``generated`` of a task whose answers are written rather than chosen. ``across``
    runs what concerns several tasks: specificity (of the ``across_k`` strongest neurons, each K by itself), interactions
    and skills on demand.
    """

    enabled: Annotated[bool, about("Whether the neurons found are ablated and steered.")] = True
    mode: Annotated[
        Literal["zero", "mean", "resample"],
        about("What an ablated activation becomes: 0, its mean, or another example's."),
    ] = "mean"
    positions: Annotated[Literal["prompt", "answer", "everywhere"], about("At which tokens neurons are changed.")] = (
        "prompt"
    )
    k: Annotated[
        list[Positive],
        about("How many of the strongest neurons are ablated together.", min_length=1, json_schema_extra=UNIQUE),
        Different,
    ] = [1, 2, 5, 10, 20, 50, 100]
    random_sets: Annotated[int, about("Random sets of neurons beside each set.", ge=2, le=MOST)] = 20
    columns: Annotated[
        Literal["primary", "all"] | Annotated[list[Text], Field(min_length=1, json_schema_extra=UNIQUE), Different],
        about("Which columns are tested: primary (one per metric), all, or full names in a list."),
    ] = "primary"
    examples: Annotated[Positive, about("Held-out examples at most that are measured.")] = 400
    generated: Annotated[Positive, about("The same where answers are written rather than chosen.")] = 100
    neutral_text: Annotated[
        Text, about("Text whose loss is the price of steering: english, pocket, or a file of one's own.")
    ] = "english"
    steering: Annotated[
        list[Number],
        about("Factors of steering, in standard deviations; none: no steering.", json_schema_extra=UNIQUE),
        Different,
    ] = [-4.0, -2.0, -1.0, 1.0, 2.0, 4.0]
    cards: Annotated[Count, about("Neurons of a column that are tested one by one and get a card.")] = 10
    across: Annotated[bool, about("Whether tasks are tested against each other.")] = True
    across_k: Annotated[
        list[Positive],
        about("How many of the strongest neurons specificity is about.", min_length=1, json_schema_extra=UNIQUE),
        Different,
    ] = [10]
    seed: Annotated[Count, about("Seed of random sets and resamples.")] = 0


class ExecutorSettings(Section):
    """What runs the units: this process, or workers of a Ray cluster. None of it changes a result or its key.

    A worker computes with ``cpus`` threads (at least one).
    """

    kind: Annotated[Literal["local", "ray"], about("Who does the work: this process, or workers of a Ray cluster.")] = (
        "local"
    )
    address: Annotated[
        Text | None,
        about("A Ray cluster, HOST:PORT, or auto: the one that runs here; none: one is started for the run."),
    ] = None
    workers: Annotated[
        Positive | Literal["auto"], about("How many workers; auto: as many as the cluster has room for.")
    ] = "auto"
    cpus: Annotated[Number, about("CPUs of a worker, which are its threads.", gt=0)] = 1.0
    gpus: Annotated[Number, about("GPUs of a worker; less than 1: workers share one.", ge=0)] = 0.0
    memory_gb: Annotated[
        Number | None, about("Gigabytes of memory that a worker is given; none: not counted.", gt=0)
    ] = None
    shards: Annotated[
        Positive,
        about("In how many shards each pass is run, with ray by so many workers; their sums are merged to one pass's."),
    ] = 1


class Config(Section):
    """Everything a run needs to know."""

    models: Annotated[
        list[Text],
        about("Models: pocket, pocket-small, hub ids, or folders.", min_length=1, json_schema_extra=UNIQUE),
        Different,
    ] = ["pocket"]
    tasks: Annotated[
        dict[str, dict[str, Any]], about("Tasks: a list of names, or a mapping from names to options.", min_length=1)
    ]
    metrics: Annotated[
        list[Text],
        about("Metrics: see skillneurons list metrics.", min_length=1, json_schema_extra=UNIQUE),
        Different,
    ] = ["confidence", "labels", "heuristics"]
    seeds: Annotated[
        list[Seed],
        about("Seeds of the prompt: each gives a prompt and cells of its own.", min_length=1, json_schema_extra=UNIQUE),
        Different,
    ] = [0]
    limit: Annotated[Positive | None, about("Examples of each split at most, whatever data says.")] = None
    device: Annotated[str, about("Where to compute: auto, cpu, cuda or cuda:N.", pattern=DEVICE)] = "auto"
    output: Annotated[Text, about("The run folder.")] = "runs"
    plugins: Annotated[
        list[Text],
        about("Plugins to load: files, folders or modules.", json_schema_extra=UNIQUE),
        Different,
    ] = []
    model: Annotated[ModelSettings, about("How models are loaded.")] = ModelSettings()
    prompt: Annotated[PromptSettings, about("The soft prompt and its tuning.")] = PromptSettings()
    data: Annotated[DataSettings, about("How many examples each split may have.")] = DataSettings()
    attribution: Annotated[
        AttributionSettings, about("How activations are read and scored, and how sure the scores are.")
    ] = AttributionSettings()
    causal: Annotated[CausalSettings, about("Ablation and steering of the neurons found.")] = CausalSettings()
    cache: Annotated[CacheSettings, about("Memory for the keys and values of inputs.")] = CacheSettings()
    executor: Annotated[ExecutorSettings, about("Who does the work: this process, or a Ray cluster.")] = (
        ExecutorSettings()
    )

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list of names is short for a mapping without options; no options may be written as nothing."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return {name: {} for name in different(value)}
        if isinstance(value, dict):
            return {name: {} if options is None else options for name, options in value.items()}
        return value

    @model_validator(mode="after")
    def _go_together(self) -> Config:
        for key, fault in contradictions(self.model_dump(), {}):
            raise PydanticCustomError("contradiction", "{key}: {fault}", {"key": key, "fault": fault})
        return self


def all_settings(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted path of every setting and section with its description, default and type."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from all_settings(field.annotation, f"{prefix}{name}.")


DEFAULTS = Config(tasks={"none": {}}).model_dump(exclude={"tasks"})
