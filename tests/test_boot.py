"""The boot code: whose images start, which is on trial, what is too old; in C and in Python, with power cut at every step."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_tse.errors import ArtifactError, TargetError
from firmware_bridge.build import build_program
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES
from firmware_bridge.flash import (
    CONFIRMED_AT,
    MARK_BYTES,
    TRIED_AT,
    Slots,
    choose,
    confirm,
    image_in,
    install,
    is_confirmed,
    start,
)
from firmware_bridge.flash_memory import MemoryFlash
from firmware_bridge.image import make, pack_image, sign, with_counter
from firmware_bridge.meter import count_instructions, emulate
from firmware_bridge.trust import KEYS, Trust, read_trust, write_trust
from tests import graphs
from tests.c_boot import CBoot, PowerCut
from tests.test_flash import SECTOR_BYTES, SIZE_BYTES, FailingFlash

cryptography = pytest.importorskip("cryptography", reason="cryptography is not installed")

from cryptography.hazmat.primitives import serialization as s  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402

DAMAGES = ("nothing", "half", "mixed", "done")
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point."""


def private(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def public(seed: int) -> bytes:
    return private(seed).public_key().public_bytes_raw()


ALICE, BOB, EVE = 1, 2, 3


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> CBoot:
    return CBoot(tmp_path_factory.mktemp("boot"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Image files: ``signed(content, counter, by)``."""
    folder = tmp_path_factory.mktemp("keys")
    for seed in (ALICE, BOB, EVE):
        pem = private(seed).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        (folder / str(seed)).write_bytes(pem)

    def image(content: int, counter: int = 0, by: int | None = ALICE) -> bytes:
        payload = random.Random(content).randbytes(400 + content)
        plain = with_counter(make(payload, target="board", core="core", artifact_digest="ab" * 32), counter)
        return pack_image(plain if by is None else sign(plain, folder / str(by)))

    return image


def board(*images: bytes, keys: tuple[int, ...] = (), minimum: int = 0) -> MemoryFlash:
    """A memory with these images, each confirmed before the next came, and this trust, which came last."""
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES)
    slots = Slots.of(memory)
    for image in images:
        confirm(memory, slots, install(memory, slots, image))
    if keys:
        write_trust(memory, slots.trust_at, [public(seed) for seed in keys], minimum)
    return memory


def copy(memory: MemoryFlash) -> MemoryFlash:
    return MemoryFlash(memory.size_bytes, memory.sector_bytes, bytes(memory.content))


def boots(boot: CBoot, memory: MemoryFlash) -> bytes | None:
    """The image that both boot."""
    slot = choose(memory, Slots.of(memory))
    assert boot.choose(memory) == slot
    return None if slot is None else image_in(memory, Slots.of(memory), slot)


def starts(boot: CBoot, memory: MemoryFlash) -> bytes | None:
    """The image that both start; they leave the same memory behind."""
    other = copy(memory)
    slot = start(memory, Slots.of(memory))
    assert boot.start(other) == slot
    assert other.content == memory.content
    return None if slot is None else image_in(memory, Slots.of(memory), slot)


def confirms(boot: CBoot, memory: MemoryFlash, slot: int) -> None:
    other = copy(memory)
    confirm(memory, Slots.of(memory), slot)
    boot.confirm(other, slot)
    assert other.content == memory.content


# Ed25519 and what it needs


def test_digests(boot: CBoot) -> None:
    """Every length around the ends of blocks, in one, two and three parts."""
    rng = random.Random(1)
    for size in [*range(300), 5000]:
        message = rng.randbytes(size)
        a, b = sorted((rng.randrange(size + 1), rng.randrange(size + 1)))
        for name in ("sha256", "sha512"):
            wanted = hashlib.new(name, message).digest()
            assert boot.digest(name, (message,)) == boot.digest(name, (message[:a], message[a:b], message[b:])) == wanted


RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
"""Section 7.1, tests 1 to 3: key, message, signature."""


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_vectors_of_the_standard(boot: CBoot, key: str, message: str, signature: str) -> None:
    assert boot.verify(bytes.fromhex(signature), (bytes.fromhex(message),), bytes.fromhex(key))
    assert not boot.verify(bytes.fromhex(signature), (bytes.fromhex(message) + b"!",), bytes.fromhex(key))


def test_signatures_of_another_implementation(boot: CBoot) -> None:
    rng = random.Random(2)
    for size in range(60):
        key = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        message = rng.randbytes(size)
        signature, whose = key.sign(message), key.public_key().public_bytes_raw()
        assert boot.verify(signature, (message[: size // 2], message[size // 2 :]), whose)
        # The same with S + L, which TweetNaCl lets pass.
        larger = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
        assert not boot.verify(signature[:32] + larger, (message,), whose)
        assert not boot.verify(bytes(64), (message,), whose)


def test_every_bit_of_a_signature_and_of_a_key_counts(boot: CBoot) -> None:
    signature, whose = private(ALICE).sign(b"image"), public(ALICE)
    assert boot.verify(signature, (b"image",), whose)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not boot.verify(bytes(flipped), (b"image",), whose), bit
    for bit in range(256):
        flipped = bytearray(whose)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not boot.verify(signature, (b"image",), bytes(flipped)), bit


def test_more_parts_than_there_is_room_for_are_refused(boot: CBoot) -> None:
    assert boot.verify(private(ALICE).sign(b"ab"), (b"a", b"b"), public(ALICE))
    assert not boot.verify(private(ALICE).sign(b"abc"), (b"a", b"b", b"c"), public(ALICE))


# Trust


def test_without_keys_anything_boots(boot: CBoot, signed: Callable[..., bytes]) -> None:
    for image in (signed(1), signed(1, by=None), b"no image at all"):
        assert boots(boot, board(image)) == image


def test_with_keys_only_what_they_signed(boot: CBoot, signed: Callable[..., bytes]) -> None:
    for by, wanted in ((ALICE, True), (BOB, True), (EVE, False), (None, False)):
        image = signed(1, by=by)
        assert (boots(boot, board(image, keys=(ALICE, BOB))) == image) == wanted
    assert boots(boot, board(b"no image at all", keys=(ALICE,))) is None
    assert boots(boot, board(signed(1)[:100], keys=(ALICE,))) is None
    four = (7, 8, 9, ALICE)
    assert boots(boot, board(signed(1), keys=four)) == signed(1)


def test_an_untrusted_newest_image_gives_way_to_the_trusted_one(boot: CBoot, signed: Callable[..., bytes]) -> None:
    for intruder in (signed(2, by=None), signed(2, by=EVE), signed(1)[:-1] + b"!", b"x"):
        memory = board(signed(1), intruder, keys=(ALICE,))
        assert boots(boot, memory) == signed(1)
        # And an update takes its place, not that of the trusted one.
        slots = Slots.of(memory)
        assert install(memory, slots, signed(3)) == 1
        assert boots(boot, memory) == signed(3)
        assert image_in(memory, slots, 0) == signed(1)


def test_every_byte_of_a_signed_image_counts(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """Whoever writes the flash can make the CRC and the boot record right; what remains is the signature."""
    image = signed(1)
    for at in [*range(240), *range(240, len(image), 37), len(image) - 1]:
        changed = image[:at] + bytes([image[at] ^ 4]) + image[at + 1 :]
        assert boots(boot, board(changed, keys=(ALICE,))) is None, at
    assert boots(boot, board(image + b"!", keys=(ALICE,))) is None


def test_a_forged_digest_does_not_help(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """A program of one's own under the header, with the digest that somebody else signed, or with its own."""
    image = signed(1)
    program = random.Random(9).randbytes(len(image) - 240)
    own = hashlib.sha256(image[:144] + program).digest()
    for digest in (image[144:176], own):
        assert boots(boot, board(image[:144] + digest + image[176:240] + program, keys=(ALICE,))) is None


def test_one_copy_of_the_boot_region_may_rot(boot: CBoot, signed: Callable[..., bytes]) -> None:
    for rotten in (0, 1):
        memory = board(signed(1, by=EVE), keys=(ALICE,))
        memory.content[Slots.of(memory).trust_at[rotten] + 20] ^= 1
        assert read_trust(memory, Slots.of(memory).trust_at).keys == (public(ALICE),)
        assert boots(boot, memory) is None
        install(memory, Slots.of(memory), signed(2))
        assert boots(boot, memory) == signed(2)


def test_a_boot_region_that_is_damaged_throughout_trusts_nobody(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1), keys=(ALICE,))
    for at in Slots.of(memory).trust_at:
        memory.content[at + 20] ^= 1
    assert read_trust(memory, Slots.of(memory).trust_at) == Trust(keys=())
    assert boots(boot, memory) is None
    write_trust(memory, Slots.of(memory).trust_at, [public(ALICE)], 0)
    assert boots(boot, memory) == signed(1)


def test_the_newer_record_of_the_boot_region_counts(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """Over many generations, and past the end of their numbers."""
    memory = board(signed(1, by=BOB), signed(2, by=ALICE))
    slots = Slots.of(memory)
    for round_ in range(5):
        write_trust(memory, slots.trust_at, [public(BOB if round_ % 2 else ALICE)], 0)
        assert boots(boot, memory) == (signed(1, by=BOB) if round_ % 2 else signed(2, by=ALICE))
        saved = memory.read(slots.trust_at[1], 200)
        write_trust(memory, slots.trust_at, [public(EVE)], 0)
        # As if power had gone between the two copies.
        memory.content[slots.trust_at[1] : slots.trust_at[1] + 200] = saved
        assert boots(boot, memory) is None
        write_trust(memory, slots.trust_at, [public(BOB if round_ % 2 else ALICE)], 0)


def test_too_many_keys() -> None:
    memory = board()
    with pytest.raises(TargetError, match=f"5 keys are to be trusted, there is room for {KEYS}: trust fewer"):
        write_trust(memory, Slots.of(memory).trust_at, [public(seed) for seed in range(5)], 0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_power_may_go_while_keys_change(boot: CBoot, signed: Callable[..., bytes], damage: str) -> None:
    """Old or new keys are in force at every step; never none, once there have been some."""
    before = board(signed(1, by=BOB), signed(2, by=ALICE), keys=(ALICE,))
    at = Slots.of(before).trust_at
    seen = []
    for cut_at in _until_it_ends(lambda memory: write_trust(memory, at, [public(BOB)], 3), before, damage):
        keys = read_trust(cut_at, at).keys
        assert keys in ((public(ALICE),), (public(BOB),))
        assert boots(boot, cut_at) == (signed(2, by=ALICE) if keys == (public(ALICE),) else None)  # its counter is too low
        seen.append(keys)
        write_trust(cut_at, at, [public(BOB)], 0)
        assert boots(boot, cut_at) == signed(1, by=BOB)
    assert seen == sorted(seen, key=[(public(ALICE),), (public(BOB),)].index)
    assert len(set(seen)) == 2


@pytest.mark.parametrize("damage", ["nothing", "mixed"])
@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("how", ["rotten", "stale"])
def test_power_may_go_where_one_copy_alone_is_right(
    boot: CBoot, signed: Callable[..., bytes], damage: str, bad: int, how: str
) -> None:
    """The other is written first: it is the one that is not needed. While keys change, and while a start raises the counter."""
    image = signed(2, 7)
    before = board(image)
    slots = Slots.of(before)
    write_trust(before, slots.trust_at, [public(BOB)], 0)
    old = before.read(slots.trust_at[bad], SECTOR_BYTES)
    write_trust(before, slots.trust_at, [public(ALICE)], 4)
    at = slots.trust_at[bad]
    before.content[at : at + SECTOR_BYTES] = old
    if how == "rotten":
        before.content[at + 20] ^= 1
    acts: list[Callable[[MemoryFlash], object]] = [
        lambda memory: write_trust(memory, slots.trust_at, [public(ALICE)], 7),
        lambda memory: start(memory, slots),
        boot.start,
    ]
    for act in acts:
        ended = copy(before)
        act(ended)
        assert read_trust(ended, slots.trust_at) == Trust(keys=(public(ALICE),), minimum_counter=7)
        for memory in _until_it_ends(act, before, damage):
            found = read_trust(memory, slots.trust_at)
            assert found.keys == (public(ALICE),)
            assert found.minimum_counter in (4, 7)
            assert boots(boot, memory) == image


@pytest.mark.parametrize("damage", DAMAGES)
def test_power_may_go_while_the_first_keys_are_given(boot: CBoot, signed: Callable[..., bytes], damage: str) -> None:
    """The board trusts everybody, as before, or the key; it is no brick."""
    before = board(signed(1))
    at = Slots.of(before).trust_at
    for memory in _until_it_ends(lambda memory: write_trust(memory, at, [public(ALICE)], 0), before, damage):
        assert read_trust(memory, at).keys in (None, (public(ALICE),))
        assert boots(boot, memory) == signed(1)


# The trial


def test_a_new_image_is_reverted_unless_it_confirms_itself(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1))
    slots = Slots.of(memory)
    slot = install(memory, slots, signed(2))
    assert starts(boot, memory) == signed(2)
    assert not is_confirmed(memory, slots, slot)
    for _ in range(3):
        assert starts(boot, memory) == signed(1)
    # The next update takes the place of what failed.
    assert install(memory, slots, signed(3)) == slot
    assert starts(boot, memory) == signed(3)
    confirms(boot, memory, slot)
    for _ in range(3):
        assert starts(boot, memory) == signed(3)
    assert install(memory, slots, signed(4)) == 1 - slot


def test_an_update_during_a_trial_leaves_the_confirmed_image(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1))
    slots = Slots.of(memory)
    slot = install(memory, slots, signed(2))
    for content in (3, 4, 5):
        assert install(memory, slots, signed(content)) == slot
        assert image_in(memory, slots, 1 - slot) == signed(1)
        assert starts(boot, memory) == signed(content)


def test_the_only_image_starts_again_and_again(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """There is nothing to go back to."""
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES)
    install(memory, Slots.of(memory), signed(1))
    for _ in range(3):
        assert starts(boot, memory) == signed(1)
    install(memory, Slots.of(memory), signed(2))
    assert [starts(boot, memory) for _ in range(3)] == [signed(2)] * 3, "both failed: the newer"


def test_a_mark_is_one_by_itself_alone(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """Tried is whatever is not erased; confirmed is one word, to the last bit."""
    for bit in range(MARK_BYTES * 8):
        memory = board(signed(1))
        slots = Slots.of(memory)
        slot = install(memory, slots, signed(2))
        memory.content[slots.at[slot] + TRIED_AT + bit // 8] ^= 1 << bit % 8
        assert boots(boot, memory) == signed(1)
        confirm(memory, slots, slot)
        assert boots(boot, memory) == signed(2)
        memory.content[slots.at[slot] + CONFIRMED_AT + bit // 8] ^= 1 << bit % 8
        assert boots(boot, memory) == signed(1)


# The security counter


def test_what_is_older_than_what_was_kept_does_not_boot(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1, 4), keys=(ALICE,))
    slots = Slots.of(memory)
    install(memory, slots, signed(2, 5))
    assert starts(boot, memory) == signed(2, 5)
    assert read_trust(memory, slots.trust_at).minimum_counter == 0, "on trial: it can still go back"
    confirms(boot, memory, 1)
    assert starts(boot, memory) == signed(2, 5)
    assert read_trust(memory, slots.trust_at).minimum_counter == 5
    # Not when the newer one rots, and not when somebody installs it anew.
    rotten = copy(memory)
    rotten.content[slots.at[1] + SECTOR_BYTES + 300] ^= 1
    assert boots(boot, rotten) is None
    install(memory, slots, signed(1, 4))
    assert boots(boot, memory) == signed(2, 5)
    install(memory, slots, signed(3, 5))
    assert starts(boot, memory) == signed(3, 5)
    with pytest.raises(ArtifactError, match=r"a\.img has security counter 4, this board takes 5 and higher"):
        read_trust(memory, slots.trust_at).check(signed(1, 4), "a.img")


def test_a_trial_that_fails_raises_nothing(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1, 4), keys=(ALICE,))
    slots = Slots.of(memory)
    install(memory, slots, signed(2, 2**32 - 1))
    assert [starts(boot, memory) for _ in range(3)] == [signed(2, 2**32 - 1), signed(1, 4), signed(1, 4)]
    assert read_trust(memory, slots.trust_at).minimum_counter == 4


def test_an_unsigned_counter_raises_nothing(boot: CBoot, signed: Callable[..., bytes]) -> None:
    memory = board(signed(1, 9, by=None))
    assert starts(boot, memory) == signed(1, 9, by=None)
    assert read_trust(memory, Slots.of(memory).trust_at) == Trust()


# Power, over the whole life of an update


def _until_it_ends(act: Callable[[MemoryFlash], object], before: MemoryFlash, damage: str) -> Iterator[MemoryFlash]:
    """The memory that each cut leaves, one step later each time, until the power holds."""
    for cut_at in range(10_000):
        memory = FailingFlash(bytes(before.content), cut_at, damage)
        try:
            act(memory)
        except PowerCut:
            yield copy(memory)
        else:
            assert cut_at > 0
            return


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("in_c", [False, True])
def test_power_may_go_at_every_step_of_an_update_and_its_trial(
    boot: CBoot, signed: Callable[..., bytes], damage: str, in_c: bool
) -> None:
    """Install, start, confirm, start: whatever step power goes at, something trusted boots, and C and Python agree which. Until the
    confirmation it may be the old image, from there on it is the new one, and the old counter never comes back."""
    old, new = signed(1, 4), signed(2, 5)
    before = board(signed(0, 3), old, keys=(ALICE,))
    start(before, slots := Slots.of(before))
    slot = 0
    cuts = 0

    def life(memory: MemoryFlash) -> None:
        install(memory, slots, new)
        boot.start(memory) if in_c else start(memory, slots)
        boot.confirm(memory, slot) if in_c else confirm(memory, slots, slot)
        boot.start(memory) if in_c else start(memory, slots)

    order = []
    for memory in _until_it_ends(life, before, damage):
        cuts += 1
        image = boots(boot, memory)
        assert image in (old, new)
        minimum = read_trust(memory, slots.trust_at).minimum_counter
        assert minimum in (4, 5)
        kept = is_confirmed(memory, slots, slot) and image_in(memory, slots, slot) == new
        assert minimum == 4 or kept
        assert not kept or image == new
        order.append((kept, minimum))
        # Whatever was left, another try ends with the new image, kept.
        after = starts(boot, memory)
        assert after == image
        install(memory, slots, signed(3, 5))
        assert starts(boot, memory) == signed(3, 5)
    assert order == sorted(order)
    assert {(False, 4), (True, 4)} <= set(order)
    assert cuts > len(new) // 16 + 4


def test_power_goes_again_and_again(boot: CBoot, signed: Callable[..., bytes]) -> None:
    """A board that is updated, restarted, confirmed and cut off at random always has something trusted to boot, and its counter
    never falls."""
    rng = random.Random(11)
    content, minimum = bytes(board(signed(0, 0), keys=(ALICE,)).content), 0
    ends = 0
    for round_ in range(250):
        memory = FailingFlash(content, rng.randrange(120), rng.choice(DAMAGES))
        slots = Slots.of(memory)
        image = signed(round_, minimum + rng.randrange(3))
        try:
            while True:
                act = rng.randrange(4)
                if act == 0:
                    install(memory, slots, image)
                elif act == 1:
                    slot = boot.start(memory) if rng.randrange(2) else start(memory, slots)
                    assert slot is not None
                    if rng.randrange(2):
                        confirm(memory, slots, slot)
                elif act == 2:
                    install(memory, slots, signed(round_, by=EVE))
                else:
                    write_trust(memory, slots.trust_at, [public(ALICE)], minimum)
        except PowerCut:
            ends += 1
        left = copy(memory)
        assert boots(boot, left) is not None
        found = read_trust(left, slots.trust_at)
        assert found.keys == (public(ALICE),)
        assert found.minimum_counter >= minimum
        minimum = found.minimum_counter
        content = bytes(left.content)
    assert ends == 250
    assert minimum > 10


# On emulated cores


MOST_INSTRUCTIONS = 8_000_000
"""Of a verification, on any of the cores."""
EMULATED = ("qemu-mps3-an547", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qemu-mps2-an500", "qemu-mps2-an386")))


@pytest.mark.parametrize("core", EMULATED)
def test_an_emulated_core_starts_what_python_starts(signed: Callable[..., bytes], core: str, tmp_path: Path) -> None:
    """The same slot, the same memory afterwards, within the stack that a program of ours has, and in a time that is stated."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    program = ("boot_cases.c", "boot.c", "ed25519.c", "sha2.c")
    image = build_program(generate(graphs.artifact(graphs.TINY)), CORES[core], tmp_path / "boot.elf", program=program)
    trial = board(signed(1, 4), signed(2, 5, by=EVE), keys=(ALICE,))
    install(trial, Slots.of(trial), signed(3, 5))
    failed = copy(trial)
    assert start(failed, Slots.of(failed)) == 1
    kept = copy(failed)
    confirm(kept, Slots.of(kept), 1)
    memories = {
        "nothing": board(),
        "open": board(signed(1, by=None)),
        "trial": trial,
        "failed": failed,
        "kept": kept,
        "untrusted": board(signed(1), signed(2, by=EVE), keys=(ALICE,)),
        "nobody": board(signed(1), signed(2, by=None), keys=(BOB,)),
    }
    for name, memory in memories.items():
        (tmp_path / name).write_bytes(memory.content)
        said = emulate(image, [name, str(SECTOR_BYTES), "after"], tmp_path)
        slot = start(memory, Slots.of(memory))
        assert int(said["slot"]) == (-1 if slot is None else slot), name
        assert (tmp_path / "after").read_bytes() == memory.content, name
        assert 0 < int(said["stack_bytes"]) < 4096, name
    (tmp_path / "one").write_bytes(board(signed(1), keys=(ALICE,)).content)
    counted_ = count_instructions(
        image, ["one", str(SECTOR_BYTES), "after"], tmp_path, first="etse_ed25519_verify", last="port_write"
    )
    (instructions,) = counted_.passes
    assert 1_000_000 < instructions < MOST_INSTRUCTIONS
