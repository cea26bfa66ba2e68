"""Learns the way through T-mazes by recurrent Q-learning, with a target network that `copy_variables` fills.

What an agent sees at the start tells which way to turn at the end of a corridor, so it has to remember. What
it learns for a step depends on what is expected of the next: an older copy of the network, which stands still
for some steps, tells that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn
from command_line import make_parser, progress

CORRIDOR, LONGEST = 8, 12  # steps to the junction; steps until an agent gives up
BATCH, UNITS, DISCOUNT = 64, 48, 0.9
ACTIONS = AHEAD, LEFT, RIGHT = range(3)
COPY_EVERY = 10  # learning steps


class Mazes:
    """BATCH mazes side by side, each with an agent at its start; the right ways to turn are drawn."""

    def __init__(self, random: np.random.Generator) -> None:
        self.way = random.integers(LEFT, RIGHT + 1, BATCH)
        self.at = np.zeros(BATCH, int)
        self.running = np.ones(BATCH, bool)

    def seen(self) -> Any:
        """[BATCH, 3]: at the start a sign to the left or right; whether this is the junction."""
        start = self.at == 0
        return np.stack([start & (self.way == LEFT), start & (self.way == RIGHT), self.at == CORRIDOR], 1)

    def act(self, actions: Any) -> Any:
        """Takes a step in each maze; a turn ends it, right or into a wall. Returns the rewards, [BATCH]."""
        turned = self.running & (actions != AHEAD)
        self.running &= ~turned
        self.at += self.running & (self.at < CORRIDOR)
        return turned * np.where((self.at == CORRIDOR) & (actions == self.way), 1.0, -1.0)


class Agent:
    """The graph: a network that acts and learns, in the scope "network", and its copy, in "target"."""

    def __init__(self) -> None:
        self.seen = tf.placeholder(tf.float32, [BATCH, None, 3])
        self.actions = tf.placeholder(tf.int32, [BATCH, LONGEST])
        self.rewards = tf.placeholder(tf.float32, [BATCH, LONGEST])
        self.running = tf.placeholder(tf.float32, [BATCH, LONGEST + 1])  # 1 until the turn, then 0
        cell = fused_rnn.rnn_cell.LSTMCell(UNITS)
        state = fused_rnn.get_state_variables(BATCH, cell)
        self.values, new_state = network("network", self.seen, cell, state)
        self.update = fused_rnn.get_state_update_op(state, new_state)
        self.reset = fused_rnn.get_state_reset_op(state, cell, BATCH)
        self.all_values, _ = network("network", self.seen, cell)
        self.target_values, _ = network("target", self.seen, fused_rnn.rnn_cell.LSTMCell(UNITS))
        self.copy = fused_rnn.copy_variables("network", "target")
        later = self.running[:, 1:] * tf.reduce_max(self.target_values[:, 1:], 2)
        chosen = tf.reduce_sum(self.all_values[:, :-1] * tf.one_hot(self.actions, len(ACTIONS)), 2)
        error = self.running[:, :-1] * (self.rewards + DISCOUNT * tf.stop_gradient(later) - chosen)
        loss = tf.reduce_sum(tf.square(error)) / tf.reduce_sum(self.running[:, :-1])
        variables = tf.trainable_variables("network/")
        pairs = zip(tf.gradients(loss, variables), variables, strict=True)
        self.train = tf.train.AdamOptimizer(0.003).apply_gradients(pairs)


def network(scope: str, seen: tf.Tensor, cell: Any, state: Any = None) -> tuple[tf.Tensor, Any]:
    """What was seen, [BATCH, T, 3], -> the value of each action then, [BATCH, T, 3], and the state."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        outputs, state = fused_rnn.dynamic_rnn(cell, seen, initial_state=state, dtype=tf.float32)
        return tf.tensordot(outputs, tf.get_variable("weights", [UNITS, len(ACTIONS)]), 1), state


def play(session: tf.Session, agent: Agent, random: np.random.Generator, chance: float) -> dict[Any, Any]:
    """Plays to the end, by chance now and then. Returns what happened, as the agent learns from it."""
    mazes = Mazes(random)
    session.run(agent.reset)
    seen, actions, rewards, running = [mazes.seen()], [], [], [mazes.running.copy()]
    for _ in range(LONGEST):
        values, _ = session.run([agent.values, agent.update], {agent.seen: seen[-1][:, None]})
        by_chance = random.random(BATCH) < chance
        actions.append(np.where(by_chance, random.choice(ACTIONS, BATCH), values[:, 0].argmax(1)))
        rewards.append(mazes.act(actions[-1]))
        seen.append(mazes.seen())
        running.append(mazes.running.copy())
    happened = {agent.seen: seen, agent.actions: actions, agent.rewards: rewards, agent.running: running}
    return {name: np.stack(values, 1) for name, values in happened.items()}


def main() -> None:
    """Plays and learns in turn; prints how many agents arrive, and what both networks expect at the start."""
    arguments = make_parser(__doc__, steps=600).parse_args()
    random = np.random.default_rng(arguments.seed)
    tf.set_random_seed(arguments.seed)
    agent = Agent()
    print(f"a start is worth {DISCOUNT**CORRIDOR:.3f} to who knows the way")
    print("\nstep   arrive right   worth to the network   to its copy")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for step in progress(arguments.steps, "learning"):
            if step % COPY_EVERY == 1:
                session.run(agent.copy)
            happened = play(session, agent, random, chance=0.2)
            session.run(agent.train, happened)
            if step * 10 % arguments.steps < 10:
                right = (play(session, agent, random, chance=0)[agent.rewards] > 0).any(1).mean()
                values, copied = session.run([agent.all_values, agent.target_values], happened)
                worth = [v[:, 0].max(1).mean() for v in (values, copied)]
                tqdm.write(f"{step:4}{right:13.0%}{worth[0]:19.3f}{worth[1]:18.3f}")
        session.run(agent.copy)
        values, copied = session.run([agent.all_values, agent.target_values], happened)
    print(f"\nafter a last copy, their values differ by {np.abs(values - copied).max()}")


if __name__ == "__main__":
    main()
