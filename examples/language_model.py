"""Trains a word-level language model with TensorFlow's cells and with the fused ones, and compares the two.

Both models start from the same weights and see the same batches. Every epoch prints their perplexities and
speeds; at the end come the test perplexities, the speed of the RNN part by itself, a figure, and a paragraph
that the model wrote. No data is needed: by default it reads the documentation that ships inside Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from quiet_tensorflow import tf
from text_data import END, UNKNOWN, Corpus, DataError, Ids, batch_count, batches, load_corpus, readable
from training_report import Epoch, Report
from word_model import CELLS, LAYERS, SETTINGS, LanguageModel, RnnPart, Setting, copy_weights

DEFAULT_EPOCHS = 10  # on the default text, which is a twentieth of the Penn Treebank set
# On so small a text the settings' own rate of 1 makes training chaotic: differences in the last bit grow to
# percents of the perplexity within an epoch. A quarter of it, falling sooner and more slowly, keeps them in
# the third digit.
DEFAULT_RATE: dict[str, Any] = {"learning_rate": 0.25, "full_rate_epochs": 3, "decay": 0.75}
SAMPLE_WORDS = 120
WIDTH = 96  # of the sampled paragraph


class Trainer:
    """The graphs of the chosen cells in one session: trains them in turn and measures them.

    `cells` names them (keys of CELLS). The second model starts with a copy of the first one's weights.
    """

    def __init__(self, cells: list[str], setting: Setting, corpus: Corpus) -> None:
        """Builds the graphs and initialises the weights."""
        self.cells, self.setting, self.corpus = cells, setting, corpus
        size, batch, steps = len(corpus.vocabulary), setting.batch, setting.steps
        self.training, self.evaluation, self.sampling, self.rnn_parts = {}, {}, {}, {}
        for name in cells:
            self.training[name] = LanguageModel(name, setting, size, batch=batch, steps=steps, training=True)
            self.evaluation[name] = LanguageModel(name, setting, size, batch=batch, steps=steps)
            self.sampling[name] = LanguageModel(name, setting, size, batch=1, steps=1)
            self.rnn_parts[name] = RnnPart(name, setting)
        self.session = tf.Session()
        self.session.run(tf.global_variables_initializer())
        for other in cells[1:]:
            copy_weights(self.session, cells[0], other)

    def weight_count(self) -> int:
        """How many numbers a model learns."""
        return sum(v.shape.num_elements() for v in tf.trainable_variables(f"{self.cells[0]}/"))

    def run(self, report: Report, epochs: int) -> None:
        """Trains, prints a line of the table for every epoch, and fills the report."""
        corpus, setting = self.corpus, self.setting
        self._warm_up()
        say(report.header())
        total = sum(
            batch_count(words, setting.batch, setting.steps) for words in (corpus.train, corpus.valid)
        )
        total *= epochs * len(self.cells)
        with tqdm(total=total, unit="batch", leave=False, disable=None) as bar:
            for epoch in range(1, epochs + 1):
                rate = setting.rate(epoch)
                results = {}
                for cells in self.cells:
                    bar.set_description(f"epoch {epoch} of {epochs}, {cells}")
                    train, speed = self._epoch(self.training[cells], corpus.train, rate, bar.update)
                    valid, _ = self._epoch(self.evaluation[cells], corpus.valid, advance=bar.update)
                    results[cells] = Epoch(train, valid, speed)
                report.add(rate, results)
                say(report.last_row())
            bar.set_description("timing the training step and the RNN part")
            self._time_in_turns(report)
            for cells in self.cells:
                report.test_perplexity[cells], _ = self._epoch(self.evaluation[cells], corpus.test)

    def sample(self, cells: str, temperature: float, seed: int) -> list[str]:
        """Whole sentences of at least SAMPLE_WORDS words in all, drawn word by word, `<unk>` never."""
        model, random = self.sampling[cells], np.random.default_rng(seed)
        number = self.corpus.vocabulary.index
        word, words = number(END), [END]
        state = self.session.run(model.initial_state)
        while len(words) < SAMPLE_WORDS or (word != number(END) and len(words) < 2 * SAMPLE_WORDS):
            feed = {model.words: [[word]], model.initial_state: state}
            logits, state = self.session.run([model.logits, model.final_state], feed)
            scores = logits[0].astype(np.float64) / temperature  # [V]
            scores[number(UNKNOWN)] = -np.inf
            chances = np.exp(scores - scores.max())
            word = int(random.choice(len(chances), p=chances / chances.sum()))
            words.append(self.corpus.vocabulary[word])
        return words

    def _epoch(
        self,
        model: LanguageModel,
        text: Ids,
        rate: float | None = None,
        advance: Callable[[], object] = lambda: None,
    ) -> tuple[float, float]:
        """Goes once through a text, and learns from it if a learning rate is given.

        Calls `advance` after each batch. Returns the perplexity, and the speed in words a second, from the
        median time of a batch: it stands still when something else takes the machine for a moment.
        """
        fetches: list[Any] = [model.cost, model.final_state]
        feed: dict[Any, Any] = {}
        if rate is not None:
            fetches.append(model.train)
            feed[model.learning_rate] = rate
        cost, times = 0.0, []
        state = self.session.run(model.initial_state)
        for words, targets in batches(text, model.batch, model.steps):
            feed |= {model.words: words, model.targets: targets, model.initial_state: state}
            start = time.perf_counter()
            batch_cost, state, *_ = self.session.run(fetches, feed)
            times.append(time.perf_counter() - start)
            cost += float(batch_cost)
            advance()
        perplexity = float(np.exp(cost / (len(times) * model.steps)))
        return perplexity, model.batch * model.steps / statistics.median(times)

    def _warm_up(self) -> None:
        """Runs each graph on one batch, which learns nothing: the first run of a graph also sets it up."""
        one_batch = self.corpus.train[: self.setting.batch * (self.setting.steps + 1)]
        for cells in self.cells:
            self._epoch(self.training[cells], one_batch, rate=0.0)
            self._epoch(self.evaluation[cells], one_batch)

    def _time_in_turns(self, report: Report, seconds: float = 8.0) -> None:
        """Measures the training step and the RNN part of every model: the median over many runs of each.

        They take turns, so that whatever else the machine does slows all of them. The training step runs with
        a learning rate of 0: the weights stay.
        """
        batch, steps = self.setting.batch, self.setting.steps
        words, targets = next(batches(self.corpus.train, batch, steps))
        inputs = np.random.default_rng(0).standard_normal((batch, steps, self.setting.hidden), np.float32)
        runs: list[tuple[dict[str, float], str, Any, dict[Any, Any]]] = []
        for cells, model in self.training.items():
            feed = {model.words: words, model.targets: targets, model.learning_rate: 0.0}
            runs.append((report.step_speed, cells, model.train, feed))
        for cells, part in self.rnn_parts.items():
            runs.append((report.rnn_speed, cells, part.run, {part.inputs: inputs}))
        times: list[list[float]] = [[] for _ in runs]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times[0]) < 6:
            for (_, _, fetch, feed), measured in zip(runs, times, strict=True):
                start = time.perf_counter()
                self.session.run(fetch, feed)
                measured.append(time.perf_counter() - start)
        for (speeds, cells, _, _), measured in zip(runs, times, strict=True):
            speeds[cells] = batch * steps / statistics.median(measured[1:])  # the first run sets up


def say(text: str) -> None:
    """Prints above the progress bar."""
    tqdm.write(text)
    sys.stdout.flush()


def parse_arguments() -> argparse.Namespace:
    """The command line, checked as far as it can be before the text is read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--setting", choices=SETTINGS, default="small", help="size and regularisation, as in the paper"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="a directory with ptb.train.txt, ptb.valid.txt and ptb.test.txt, or any text file",
    )
    parser.add_argument(
        "--vocabulary",
        type=positive,
        default=10_000,
        metavar="WORDS",
        help="the most words to know (%(default)s)",
    )
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help=f"(the setting's own with --data, else {DEFAULT_EPOCHS})"
    )
    parser.add_argument(
        "--cells", nargs="+", choices=CELLS, default=list(CELLS), help="which to train (both)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.5, help="of the sampled paragraph (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the weights, dropout and sampling (%(default)s)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        default=Path("language_model.png"),
        metavar="PATH",
        help="where to write the figure: .png, .pdf or .svg (%(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.temperature <= 0:
        parser.error(f"argument --temperature: must be greater than 0, not {arguments.temperature}")
    if arguments.plot.suffix not in {".png", ".pdf", ".svg"} or not arguments.plot.parent.is_dir():
        parser.error(f"argument --plot: not a .png, .pdf or .svg in an existing directory: {arguments.plot}")
    return arguments


def positive(text: str) -> int:
    """A command line's number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def check_lengths(corpus: Corpus, setting: Setting) -> None:
    """Raises DataError if a part of the text gives no batch."""
    needed = setting.batch * (setting.steps + 1)
    for part in ("train", "valid", "test"):
        words = len(getattr(corpus, part))
        if words < needed:
            raise DataError(
                f"{corpus.name} is too short: its {part} part has {words} words, and a batch of "
                f"{setting.batch} x {setting.steps} takes {needed}"
            )


def main() -> None:
    """Reads the text, trains the models, and reports."""
    started = time.perf_counter()
    arguments = parse_arguments()
    setting = SETTINGS[arguments.setting]
    if not arguments.data:
        setting = dataclasses.replace(setting, **DEFAULT_RATE)
    try:
        corpus = load_corpus(arguments.data, arguments.vocabulary)
        check_lengths(corpus, setting)
    except DataError as error:
        sys.exit(f"language_model.py: error: {error}")
    tf.set_random_seed(arguments.seed)
    cells = [name for name in CELLS if name in arguments.cells]  # the reference first
    trainer = Trainer(cells, setting, corpus)
    say(
        f"text   {corpus.name}\n"
        f"       {len(corpus.train):,} words to train on, {len(corpus.valid):,} to validate and "
        f"{len(corpus.test):,} to test with; a vocabulary of {len(corpus.vocabulary):,}\n"
        f"model  {arguments.setting}: {LAYERS} layers of {setting.hidden} units, "
        f"{trainer.weight_count():,} weights; batches of {setting.batch} x {setting.steps} words"
    )
    for name in cells:
        say(f"cells  {name}: those of {CELLS[name].rnn_cell.__name__}")
    report = Report(f"Word-level language model, {arguments.setting} setting: {corpus.name}", cells)
    say("")
    trainer.run(report, arguments.epochs or (setting.epochs if arguments.data else DEFAULT_EPOCHS))
    say(f"\n{report.summary()}\n")
    report.plot(arguments.plot)
    say(f"A paragraph from the model with the {cells[-1]} cells, at temperature {arguments.temperature}:\n")
    say(readable(trainer.sample(cells[-1], arguments.temperature, arguments.seed), WIDTH))
    say(f"\nfigure {arguments.plot}\ntime   {time.perf_counter() - started:.0f} s after the imports")


if __name__ == "__main__":
    main()
