import uuid

from hypothesis import given
from hypothesis import strategies as st

from bulkdl.simulator.ids import IdKind, Ids, Index

indices = st.builds(
    Index,
    st.sampled_from(IdKind),
    st.integers(0, 2**12 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**6 - 1),
    st.integers(0, 2**10 - 1),
)


@given(st.integers(), indices)
def test_decode_returns_the_encoded_index(seed: int, index: Index) -> None:
    text = Ids(seed).encode(index)
    assert Ids(seed).decode(text) == index
    assert uuid.UUID(text).version == 4
    assert uuid.UUID(text).variant == uuid.RFC_4122


@given(st.uuids(version=4))
def test_decode_foreign_id_returns_none(other: uuid.UUID) -> None:
    assert Ids(1).decode(str(other)) is None


def test_decode_other_seed_or_spelling_returns_none() -> None:
    text = Ids(1).encode(Index(IdKind.JOB, 0, 7))
    assert Ids(2).decode(text) is None
    assert Ids(1).decode(text.upper()) is None
    assert Ids(1).decode("nonsense") is None
    assert Ids(1).decode("6fa459ea-ee8a-11e9-81b4-2a2ae2dbcce4") is None
