"""Against counts and values that nobody here made: stim, a simulator of stabilizer circuits (Gidney 2021, Quantum)."""

import numpy as np
import pytest
import stim

from wnlib import operators, recover
from wnlib.linalg import mH, sym

GHZ = stim.Circuit("H 0\nCX 0 1 1 2 2 3\nS 0")
KET = np.array([1, *[0] * 14, 1j]) / np.sqrt(2)


@pytest.mark.parametrize("seed", range(4))
def test_values_of_stabilizer_states_are_stims(seed):
    # Of the 4^q values 2^q are not zero: its stabilizers'.
    q = 4
    simulator = stim.TableauSimulator(seed=seed)
    gates = np.random.default_rng(seed)
    for _ in range(60):
        one, two = map(int, gates.choice(q, 2, replace=False))
        simulator.cx(one, two)
        simulator.h(one)
        simulator.s(two)
    ket = simulator.state_vector(endian="big")[:, None].astype(complex)
    every = operators.pauli(2**q, 4**q, np.random.default_rng(seed))
    values = [simulator.peek_observable_expectation(stim.PauliString(str(string))) for string in every.strings]
    np.testing.assert_allclose(every.measure(sym(ket @ mH(ket))) / every.scale, values, atol=1e-6)
    assert np.count_nonzero(values) == 2**q


def test_recover_finds_the_state_in_a_noisy_circuits_counts():
    N, p, error = 1000, 0.01, 0.02  # shots, depolarisation of each qubit, and how often a result is read wrongly
    strings = operators.pauli(16, 150, np.random.default_rng(0)).strings
    values = {}
    for k, string in enumerate(strings):
        factors = [f"{letter}{j}" for j, letter in enumerate(str(string)) if letter != "I"]
        if not factors:
            values[str(string)] = 1.0
            continue
        circuit = GHZ + stim.Circuit(f"DEPOLARIZE1({p}) 0 1 2 3\nMPP({error}) {'*'.join(factors)}")
        values[str(string)] = 1 - 2 * np.mean(circuit.compile_sampler(seed=k).sample(N))
    M = operators.Pauli(list(values))
    found = recover(M, M.scale * np.array(list(values.values())), psd=True, noise_std=2 * M.scale / np.sqrt(N))
    leading = np.linalg.eigh(found.matrix)[1][:, -1]
    assert np.abs(np.vdot(KET, leading)) ** 2 > 0.98
    # Depolarising a qubit multiplies the values of its X, Y and Z by 1 − 4p/3: what is left of GHZ is a mean of values.
    simulator = stim.TableauSimulator()
    simulator.do(GHZ)
    every = operators.pauli(16, 256, np.random.default_rng(1))
    value = np.array([simulator.peek_observable_expectation(stim.PauliString(str(string))) for string in every.strings])
    damping = (1 - 4 * p / 3) ** every.weight * (1 - 2 * error) ** (every.weight > 0)
    assert np.vdot(KET, found.matrix @ KET).real == pytest.approx(np.sum(value**2 * damping) / 16, abs=0.03)
