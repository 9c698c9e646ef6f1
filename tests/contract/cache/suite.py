"""What every tier of the cache promises. `make` builds one of about that many bytes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.support.cache_fakes import block_id
from zarrfuse.cache.format import BlockId
from zarrfuse.cache.tiers import Tier

Make = Callable[[int], Tier]
SIZE = 100_000
KEPT = 4  # blocks of SIZE that fit into a tier of `ROOM`
ROOM = KEPT * SIZE + SIZE // 2


def payload(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


class TierContract:
    def test_gives_back_what_it_keeps(self, make: Make) -> None:
        tier = make(ROOM)
        assert tier.get(block_id(1, SIZE)) is None
        assert tier.put(block_id(1, SIZE), payload(1))
        assert tier.get(block_id(1, SIZE)) == payload(1)

    @pytest.mark.parametrize("field", ["bucket", "key", "etag", "start", "stop"])
    def test_every_part_of_the_identity_counts(self, make: Make, field: str) -> None:
        tier = make(ROOM)
        block = block_id(1, SIZE)
        tier.put(block, payload(1))
        old = getattr(block, field)
        other = block._replace(**{field: old - 4 if isinstance(old, int) else type(old)(old + "x")})
        assert tier.get(other) is None
        assert tier.get(block) == payload(1)

    def test_the_least_recently_used_goes_first(self, make: Make) -> None:
        tier = make(ROOM)
        for number in range(KEPT):
            assert tier.put(block_id(number, SIZE), payload(number))
        assert tier.get(block_id(0, SIZE)) is not None
        assert tier.put(block_id(KEPT, SIZE), payload(KEPT))
        kept = [n for n in range(KEPT + 1) if tier.get(block_id(n, SIZE)) is not None]
        assert kept == [0, *range(2, KEPT + 1)]

    def test_too_big_for_the_tier_is_not_kept_and_evicts_nothing(self, make: Make) -> None:
        tier = make(ROOM)
        assert tier.put(block_id(1, SIZE), payload(1))
        assert not tier.put(block_id(1, 10 * SIZE), payload(1, 10 * SIZE))
        assert tier.get(block_id(1, SIZE)) == payload(1)

    def test_a_tier_without_room_keeps_nothing(self, make: Make) -> None:
        tier = make(0)
        assert not tier.put(block_id(1, SIZE), payload(1))
        assert tier.get(block_id(1, SIZE)) is None

    def test_refuses_a_block_of_another_length(self, make: Make) -> None:
        with pytest.raises(ValueError, match="for a block of"):
            make(ROOM).put(block_id(1, SIZE), payload(1)[:-1])

    def test_threads_never_see_another_block(self, make: Make) -> None:
        tier = make(ROOM)

        def work(seed: int) -> None:
            for step in range(60):
                number = (seed * 7 + step) % 9
                if tier.get(block_id(number, SIZE)) not in (None, payload(number)):
                    raise AssertionError(f"block {number} is another one")
                tier.put(block_id(number, SIZE), payload(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8), timeout=60))

    @pytest.mark.parametrize("seed", range(8))
    def test_gives_only_what_was_put(self, make: Make, seed: int) -> None:
        tier = make(ROOM)
        random = Random(seed)
        model: dict[BlockId, bytes] = {}
        for _ in range(100):
            number, size = random.randrange(9), random.randrange(40_000)
            block = block_id(number, size, key=f"k{number}")
            data = bytes([number]) * size
            if tier.put(block, data):
                model[block] = data
            assert tier.get(block) == model.get(block)
        assert {tier.get(block) for block in model} <= {None, *model.values()}
