"""What a voice may be besides the encoder's unit vector: averages of its layers, or an embedding that another model made."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from edge_tse import audio  # noqa: E402
from edge_tse.artifact import Artifact  # noqa: E402
from edge_tse.cli import main  # noqa: E402
from edge_tse.embeddings import read_embeddings  # noqa: E402
from edge_tse.enrollment.recordings import enroll_files  # noqa: E402
from edge_tse.errors import ArtifactError, AudioError, DataError  # noqa: E402
from edge_tse.nn.encoder import BLOCKS, CHANNELS, AdditiveMargin, Encoder, GeneralizedEndToEnd  # noqa: E402
from edge_tse.nn.student import NANO, Student  # noqa: E402
from edge_tse.personalization import personalize  # noqa: E402
from edge_tse.reference import ReferenceNetwork  # noqa: E402
from edge_tse.voice import (  # noqa: E402
    Voice,
    active_levels,
    load_voice,
    matching_layers,
    save_voice,
    speech_levels,
    voice_from_embeddings,
)
from quantization import recipes, train  # noqa: E402
from quantization.checkpoint import load_checkpoint  # noqa: E402
from quantization.corpus import decode, open_corpus  # noqa: E402
from quantization.encoder_training import Enrollments, embed_all, noise_levels, train_encoder  # noqa: E402
from quantization.external import open_embeddings  # noqa: E402
from quantization.freeze import freeze_voice_model  # noqa: E402
from quantization.quantize import golden_features, quantize  # noqa: E402
from quantization.recipes import EncoderRecipe, recipe  # noqa: E402
from tests.speech import utterance  # noqa: E402

LOCAL = replace(NANO, local=8)
SIZE = 192


@pytest.fixture(scope="module")
def local():
    """A student whose every head says something."""
    torch.manual_seed(3)
    made = Student(LOCAL).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "local_films" in name or "project" in name or "head" in name:
                parameter.normal_(std=0.1)
        made.standardize(torch.randn(50, LOCAL.voice_size) * 3 + 1)
    return made


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(4)
    made = Encoder()
    with torch.no_grad():
        made(torch.randn(4, 200, 96))  # moments of batch normalisation that are not those of the start
    return made.eval()


@pytest.fixture(scope="module")
def voices(local):
    voices = torch.randn(3, LOCAL.voice_size, generator=torch.Generator().manual_seed(6))
    return torch.cat([torch.nn.functional.normalize(voices[:, :128], dim=-1), 3 * voices[:, 128:] + 1], dim=1)


class TestLayers:
    """Averages of the encoder's layers."""

    def test_without_them_parameters_are_those_of_before(self):
        plain, layered = (set(Student(config).state_dict()) for config in (NANO, LOCAL))
        assert plain < layered
        assert {name.partition(".")[0] for name in layered - plain} == {"local", "local_films", "local_mean", "local_deviation"}

    def test_a_student_may_go_on_from_one_without(self, voices):
        torch.manual_seed(1)
        plain, layered = Student(NANO).eval(), Student(LOCAL).eval()
        layered.load_state_dict(plain.state_dict(), strict=False)
        features = 0.3 * torch.randn(3, 20, NANO.frame.features)
        with torch.no_grad():
            for got, want in zip(layered(features, voices), plain(features, voices[:, :128]), strict=True):
                torch.testing.assert_close(got, want)

    def test_early_blocks_listen_to_early_layers(self):
        layers = matching_layers(Student.slots(NANO), BLOCKS)
        assert [layers[f"mask.{i}"] for i in range(6)] == [0, 0, 1, 2, 2, 3]
        assert [layers[f"refine.{i}"] for i in range(3)] == [0, 1, 2]
        assert matching_layers([f"mask.{i}" for i in range(11)], BLOCKS)["mask.10"] == 3

    def test_the_numpy_encoder_describes_as_torch_does(self, local, encoder):
        model = freeze_voice_model(local, encoder)
        levels = active_levels(np.random.default_rng(0).uniform(-0.5, 0.5, (800, 96)).astype(np.float32))
        with torch.no_grad():
            unit, averages = encoder.describe(torch.from_numpy(levels)[None])
        got = model.describe(levels)
        assert got.shape == (LOCAL.voice_size,) == (model.size,)
        assert unit[0].numpy() @ got[:128] > 0.999  # int8 rows: close, not equal
        wanted = averages.flatten().numpy()
        assert wanted.std() > 0.05, "averages that say nothing would prove nothing"
        assert np.corrcoef(wanted, got[128:])[0, 1] > 0.999

    def test_the_artifacts_modulations_are_the_students(self, local, encoder, voices):
        model = freeze_voice_model(local, encoder)
        with torch.no_grad():
            code = local.encode(voices)
            films = local.modulations("mask", code) + local.modulations("refine", code)
            deaf = local.encode(torch.cat([voices[:, :128], local.local_mean.expand(3, -1)], dim=1))
        for item, voice in enumerate(voices.numpy()):
            made = model.modulation(voice)
            for slot, (scale, shift) in zip(Student.slots(LOCAL), films, strict=True):
                np.testing.assert_allclose(made[slot][0], scale[item].numpy(), atol=0.06)
                np.testing.assert_allclose(made[slot][1], shift[item].numpy(), atol=0.06)
        assert (local.modulations("mask", deaf)[5][1] - films[5][1]).abs().mean() > 0.1, "the layers must be heard"

    def test_a_voice_file_holds_what_the_model_needs(self, local_artifact, tmp_path):
        clip = utterance(3, 0, 4.0)
        audio.write(tmp_path / "clip.wav", clip[None], 16000)
        model = local_artifact.voice_model
        save_voice(enroll_files(model, [tmp_path / "clip.wav"]).voice, tmp_path / "a.voice")
        voice = load_voice(tmp_path / "a.voice")
        wanted = model.describe(speech_levels(model.frame, audio.read(tmp_path / "clip.wav")[0][0]))
        np.testing.assert_allclose(voice.embedding, wanted, rtol=1e-5, atol=1e-6)
        personal = personalize(local_artifact, voice)
        assert personal.personalized
        assert personal.graph.weight_bytes == local_artifact.graph.weight_bytes
        louder = replace(voice, embedding=np.concatenate([voice.embedding[:128], voice.embedding[128:] + 2]))
        features = golden_features(Student(LOCAL))[:60]
        outputs = [
            np.array([np.concatenate(network.run(row)) for row in features])
            for network in (ReferenceNetwork(personalize(local_artifact, v).graph) for v in (voice, louder))
        ]
        assert np.mean(outputs[0] != outputs[1]) > 0.01

    def test_voices_and_models_of_different_kinds_are_told_apart_in_one_line(self, local_artifact, plain_artifact):
        for artifact, other in ((local_artifact, plain_artifact), (plain_artifact, local_artifact)):
            model = artifact.voice_model
            values = np.full(other.voice_model.size, 128**-0.5, np.float32)
            voice = Voice(embedding=values, encoder_digest="ab", created="", source="")
            with pytest.raises(ArtifactError, match=r"^the voice was made by encoder ab, this model listens to voices of"):
                personalize(artifact, voice)
            with pytest.raises(
                ArtifactError, match=rf"^the voice holds {other.voice_model.size} values, the model takes {model.size}"
            ):
                personalize(artifact, replace(voice, encoder_digest=model.encoder_digest))
        assert {local_artifact.voice_model.size, plain_artifact.voice_model.size} == {128, 128 + BLOCKS * CHANNELS}

    def test_a_run_goes_on_from_one_without_layers(self, data, smoke_run, tmp_path, monkeypatch):
        made = replace(recipe("smoke"), name="smoke_local", student=LOCAL)
        monkeypatch.setitem(recipes.RECIPES, "smoke_local", lambda: made)
        train.train("smoke_local", tmp_path / "run", data, start=smoke_run, steps=0)
        begun = load_checkpoint(tmp_path / "run").student
        for name, value in load_checkpoint(smoke_run).student.state_dict().items():
            assert torch.equal(begun.state_dict()[name], value), name
        assert begun.local_deviation.std() > 0, "the units are the training talkers'"
        train.train("smoke_local", tmp_path / "run2", data, start=tmp_path / "run", steps=2)
        assert load_checkpoint(tmp_path / "run2").student.local_films["mask_0"].weight.abs().max() > 0


@pytest.fixture(scope="module")
def plain_artifact(data, smoke_run, short_calibration, tmp_path_factory):
    return quantize(smoke_run, "w8a8-ptq", tmp_path_factory.mktemp("plain") / "plain.etse", data)


@pytest.fixture(scope="module")
def local_artifact(plain_artifact, local, encoder):
    """The same graph with heads for layers: modulations have its sizes."""
    content = replace(plain_artifact, voice_model=freeze_voice_model(local, encoder)).to_bytes()
    return Artifact.from_bytes(content)


def _write_embeddings(folder, data, speeds=("", "@0.88"), size=SIZE):
    corpus = open_corpus(data)
    for speaker, paths in corpus.speakers.items():
        for i, path in enumerate(paths):
            for speed in speeds:
                rng = np.random.default_rng([len(speaker), i, len(speed)])
                target = folder / f"{speaker}{speed}" / path.stem
                target.parent.mkdir(parents=True, exist_ok=True)
                if i % 2:
                    np.savez(target.with_suffix(".npz"), a=rng.normal(size=size), b=rng.normal(size=(2, size)))
                else:
                    np.save(target.with_suffix(".npy"), rng.normal(size=size).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return _write_embeddings(tmp_path_factory.mktemp("ecapa"), data)


@pytest.fixture(scope="module")
def run(data, folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "external"
    train.train("smoke", run, data, embeddings=folder)
    return run


@pytest.fixture(scope="module")
def artifact(run, data, short_calibration, tmp_path_factory):
    return quantize(run, "w8a8-ptq", tmp_path_factory.mktemp("external") / "model.etse", data)


class TestExternal:
    """Embeddings of another model, of 192 values."""

    def test_each_utterance_has_its_own(self, data, folder):
        corpus, external = open_corpus(data), open_embeddings(folder)
        assert (external.size, external.speeds) == (SIZE, (1.0, 0.88))
        speech = decode(corpus, corpus.validation_speakers, 16000, (1.0,))
        made = external.of(corpus, speech)
        name = corpus.validation_speakers[0]
        assert [len(clip) for clip in made.by_talker[f"{name}@1"]] == [1, 3, 1]
        raw = np.load(folder / name / "u0.npy")
        np.testing.assert_allclose(made.by_talker[f"{name}@1"][0][0], raw / np.linalg.norm(raw), rtol=1e-5)

    def test_training_and_enrolling_need_no_encoder(self, run, artifact, tmp_path):
        checkpoint = load_checkpoint(run)
        assert checkpoint.encoder is None
        assert checkpoint.recipe.student.embedding == SIZE
        model = artifact.voice_model
        assert not model.encodes
        np.save(tmp_path / "a.npy", np.random.default_rng(1).normal(size=SIZE))
        voice = voice_from_embeddings(model, [tmp_path / "a.npy"], "now")
        with torch.no_grad():
            code = checkpoint.student.encode(torch.from_numpy(voice.embedding)[None])
            scale, shift = checkpoint.student.modulations("mask", code)[2]
        made = model.modulation(voice.embedding)["mask.2"]
        np.testing.assert_allclose(made[0], scale[0].numpy(), atol=0.05)
        np.testing.assert_allclose(made[1], shift[0].numpy(), atol=0.05)

    def test_the_command_makes_a_voice_of_a_file(self, artifact, tmp_path, capsys):
        artifact.save(tmp_path / "m.etse")
        np.save(tmp_path / "a.npy", np.random.default_rng(1).normal(size=SIZE))
        where = ["--artifact", str(tmp_path / "m.etse"), "-o", str(tmp_path / "a.voice"), "--json"]
        assert main(["enroll", "--embedding", str(tmp_path / "a.npy"), *where]) == 0
        assert json.loads(capsys.readouterr().out)["size"] == SIZE
        assert personalize(artifact, load_voice(tmp_path / "a.voice")).personalized
        audio.write(tmp_path / "clip.wav", utterance(3, 0, 4.0)[None], 16000)
        assert main(["enroll", str(tmp_path / "clip.wav"), *where]) == 2
        assert "takes embeddings of 192 values that another one makes" in capsys.readouterr().err
        assert main(["enroll", str(tmp_path / "clip.wav"), "--embedding", str(tmp_path / "a.npy"), *where]) == 2
        np.save(tmp_path / "b.npy", np.ones(256))
        assert main(["enroll", "--embedding", str(tmp_path / "b.npy"), *where]) == 2
        complaint = capsys.readouterr().err
        assert "256 values, the model takes 192" in complaint
        (tmp_path / "a.voice").unlink()
        raw = np.load(tmp_path / "a.npy")
        np.save(tmp_path / "c.npy", np.stack([raw, -raw]))
        assert main(["enroll", "--embedding", str(tmp_path / "c.npy"), *where]) == 2
        assert "2 embeddings cancel out: their mean has length 0, at least 0.1 is needed" in capsys.readouterr().err
        assert not (tmp_path / "a.voice").exists()

    def test_a_model_with_an_encoder_takes_no_embeddings(self, tmp_path, capsys):
        """Any 128 values became a voice that was stated to be of the shipped encoder."""
        np.save(tmp_path / "a.npy", np.random.default_rng(1).normal(size=128))
        assert main(["enroll", "--embedding", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.voice")]) == 2
        assert "listens to voices of its own encoder, embeddings are another's: enroll from recordings" in capsys.readouterr().err

    def test_a_run_resumes_from_what_it_keeps(self, run, data):
        train.train("smoke", run, data, resume=True)  # nothing left to do, and no folder given
        assert load_checkpoint(run).step == recipe("smoke").steps

    def test_a_file_of_another_size_is_named(self, data, folder, tmp_path):
        other = _write_embeddings(tmp_path / "mixed", data, speeds=("",))
        odd = next(path for path in sorted(other.rglob("*.npy"))[1:] if "labelled/" in str(path) and "un" not in path.parts[-3])
        np.save(odd, np.ones(256))
        with pytest.raises(DataError, match=rf"{odd.name} holds embeddings of 256 values, the first file of .* of 192"):
            train.train("smoke", tmp_path / "run", data, embeddings=other)

    def test_folders_that_do_not_serve_are_refused(self, data, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="0 embeddings found"):
            train.train("smoke", tmp_path / "run", data, embeddings=tmp_path / "none")
        (tmp_path / "strangers" / "nobody").mkdir(parents=True)
        np.save(tmp_path / "strangers" / "nobody" / "u0.npy", np.ones(SIZE))
        with pytest.raises(DataError, match=r"0 of \d+ .* talkers have embeddings of two utterances"):
            train.train("smoke", tmp_path / "run", data, embeddings=tmp_path / "strangers")

    @pytest.mark.parametrize("content", [np.zeros(4), np.array([1.0, np.nan]), np.zeros((0, 4)), np.ones((2, 2, 2)), np.array("a")])
    def test_arrays_that_are_no_embeddings(self, tmp_path, content):
        np.save(tmp_path / "x.npy", content)
        with pytest.raises(AudioError, match=r"x\.npy"):
            read_embeddings(tmp_path / "x.npy")

    def test_files_that_are_no_arrays(self, tmp_path):
        for name, content in (("a.npy", b""), ("b.npy", b"no"), ("c.npz", b"PK\x03\x04")):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(AudioError, match=name):
                read_embeddings(tmp_path / name)


class TestEncoderTraining:
    """Losses, and what enrollment crops are."""

    def test_ge2e_prefers_talkers_apart(self):
        torch.manual_seed(0)
        talker = torch.arange(4).repeat_interleave(3)
        apart = torch.eye(4)[talker] + 0.01 * torch.randn(12, 4)
        apart = torch.nn.functional.normalize(apart, dim=-1)
        with torch.no_grad():
            loss = GeneralizedEndToEnd()
            assert loss(apart, talker) < 0.01 < loss(apart[torch.randperm(12)], talker)

    def test_ge2e_by_hand(self):
        """Two talkers, two items: an item meets its own talker without itself."""
        e = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]]), dim=-1)
        with torch.no_grad():
            total = GeneralizedEndToEnd()(e, torch.tensor([0, 0, 1, 1]))
        several = []
        for i, j, k, m in ((0, 1, 2, 3), (1, 0, 2, 3), (2, 3, 0, 1), (3, 2, 0, 1)):
            pair = torch.stack([e[i] @ e[j], e[i] @ torch.nn.functional.normalize(e[k] + e[m], dim=0)])
            several.append(float(-torch.log_softmax(10 * pair - 5, dim=0)[0]))
        assert float(total) == pytest.approx(np.mean(several), rel=1e-5)

    def test_an_angular_margin_widens_the_angle(self):
        loss = AdditiveMargin(2, 2, margin=0.3, scale=1.0, angular=True)
        with torch.no_grad():
            loss.centres.copy_(torch.eye(2))
        angle = 0.5
        e = torch.tensor([[np.cos(angle), np.sin(angle)]], dtype=torch.float32)
        wanted = -torch.log_softmax(torch.tensor([np.cos(angle + 0.3), np.sin(angle)]), dim=0)[0]
        assert float(loss(e, torch.tensor([0])).detach()) == pytest.approx(float(wanted), rel=1e-5)

    def test_a_pull_costs_the_distance_to_the_own_talker(self):
        free, pulled = AdditiveMargin(2, 2), AdditiveMargin(2, 2, pull=3.0)
        pulled.load_state_dict(free.state_dict())
        e = torch.nn.functional.normalize(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), dim=1)
        talkers = torch.tensor([0, 1, 1, 0])
        distance = 1 - (e * torch.nn.functional.normalize(free.centres, dim=1)[talkers]).sum(dim=1).mean()
        assert float((pulled(e, talkers) - free(e, talkers)).detach()) == pytest.approx(3 * float(distance.detach()), rel=1e-4)

    @pytest.mark.parametrize("loss", ["am", "aam", "ge2e"])
    def test_every_loss_trains(self, loss):
        levels = self._levels(talkers=6, apart=0.02)
        how = EncoderRecipe(steps=30, batch=16, frames=(60, 80), noisy=0.2, loss=loss)
        seen = []
        train_encoder(levels, how, 0, torch.device("cpu"), lambda step, value: seen.append(value))
        assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:3])

    def test_a_larger_encoder_begins_as_the_smaller_one(self, encoder):
        levels = torch.rand(3, 150, 96) - 0.5
        large = encoder.grown(hidden=320, blocks=6)
        with torch.no_grad():
            torch.testing.assert_close(large(levels), encoder(levels))
        assert not large.training
        again = Encoder.of_state(large.state_dict()).eval()
        assert (len(again.blocks), again.blocks[0].expand.out_features) == (6, 320)
        with torch.no_grad():
            assert torch.equal(again(levels), large(levels))
        large(levels).sum().backward()
        learns = [name for name, weight in large.named_parameters() if weight.grad is not None and weight.grad.abs().max() > 0]
        assert {"blocks.0.project.weight", "blocks.5.project.weight"} <= set(learns)
        assert float(large.blocks[0].project.weight.grad[:, 256:].abs().max()) > 0
        for hidden, blocks in ((200, 6), (320, 3)):
            with pytest.raises(ValueError, match="cannot hold the smaller one"):
                encoder.grown(hidden, blocks)

    def test_training_goes_on_in_a_larger_encoder_whose_voices_lie_where_they_lay(self, encoder):
        levels = self._levels(talkers=6, apart=0.3)
        how = EncoderRecipe(steps=4, batch=16, frames=(60, 80), hidden=320, blocks=5, lr=1e-4)
        made = train_encoder(levels, how, 0, torch.device("cpu"), start=encoder)
        assert (len(made.blocks), made.blocks[0].expand.out_features) == (5, 320)
        clips = [torch.from_numpy(clips[0])[None] for clips in levels.values()]
        with torch.no_grad():
            assert min(float((made(x) * encoder(x)).sum()) for x in clips) > 0.9
        smaller = train_encoder(levels, replace(how, hidden=256, blocks=4, steps=1), 0, torch.device("cpu"), start=made)
        assert (len(smaller.blocks), smaller.hidden) == (5, 320), "it stays as large as it was"

    def test_the_numpy_encoder_has_as_many_blocks(self, local, encoder):
        plain, large = Student(NANO).eval(), encoder.grown(hidden=320, blocks=6)
        levels = active_levels(np.random.default_rng(0).uniform(-0.5, 0.5, (800, 96)).astype(np.float32))
        model = freeze_voice_model(plain, large)
        assert model.blocks == 6
        with torch.no_grad():
            assert large(torch.from_numpy(levels)[None])[0].numpy() @ model.embed(levels) > 0.999

    def test_crops_are_as_long_as_enrollments_and_some_are_noisy(self, encoder):
        """2 to 15 s of speech, or as much as the utterance has."""
        levels = self._levels(talkers=3, frames=(40, 200, 1500))
        lengths = []

        class Spy(Encoder):
            def describe(self, levels_BTG):
                lengths.append(tuple(levels_BTG.shape[:2]))
                return super().describe(levels_BTG)

        noise = noise_levels([np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1], NANO.frame)
        made = embed_all(Spy().eval(), levels, NANO.frame, EncoderRecipe(), 0, noises=noise, local=True)
        pieces = [n for crops, n in lengths if crops == 3]
        assert all(min(pieces) >= 40 and 125 <= n <= 938 for n in pieces if n != 40)
        assert max(n for crops, n in lengths if crops == 1) == 938
        assert len({n for n in pieces if n > 200}) > 1
        assert [clip.shape for clip in made.by_talker["t0"]] == [(4, LOCAL.voice_size)] * 3

    def test_noise_reaches_the_embeddings(self, encoder):
        levels = self._levels(talkers=4)
        noise = noise_levels([np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1], NANO.frame)
        clean, noisy = (
            embed_all(encoder, levels, NANO.frame, EncoderRecipe(noisy=share, snr_db=(0, 0), tilt=0), 0, noises=noise).every
            for share in (0.0, 1.0)
        )
        assert np.isfinite(noisy).all()
        assert np.sum(clean * noisy, axis=1).min() < 0.99

    def test_a_drawn_voice_is_a_unit_vector_and_averages(self):
        clips = [np.concatenate([np.eye(4)[i : i + 1], np.full((1, 6), float(i))], axis=1).astype(np.float32) for i in range(3)]
        made = Enrollments({"a": clips, "b": clips}, 4)
        rng = np.random.default_rng(0)
        for blur in (0.0, 0.5):
            voice = made.draw(rng, "a", 2, blur)
            assert voice.dtype == np.float32
            assert voice.shape == (10,)
            assert np.linalg.norm(voice[:4]) == pytest.approx(1, abs=1e-6)
            if not blur:
                assert voice[2] == 0, "its own utterance is excluded"
                assert 0 <= voice[4] <= 1
        assert len({float(made.draw(rng, "a", 0, 0.5)[4]) for _ in range(5)}) == 5

    @staticmethod
    def _levels(talkers, frames=(150, 160), apart=0.3):
        rng = np.random.default_rng(5)
        out = {}
        for talker in range(talkers):
            shape = rng.normal(0, apart, 96)
            clips = [(shape + rng.normal(0, 0.1, (n, 96))).astype(np.float32) for n in frames]
            out[f"t{talker}"] = [x - x.mean() for x in clips]
        return out
