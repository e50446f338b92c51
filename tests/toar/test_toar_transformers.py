"""What the extra `text` brings, with models made here: a LLaMA that reads instructions, the original SegFormer."""

import pytest
import torch

from fusion.downstream.segmentation.network import SegFormer
from fusion.errors import ConfigError, WeightsError
from fusion.models.toar.text import LanguageModelText

transformers = pytest.importorskip("transformers", reason="pip install 'image-fusion[text]'")

SENTENCES = ["object detection task", "semantic segmentation task", "find the cars"]
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Folder with a small LLaMA of random weights and a byte-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<unk>", "<s>", "</s>"]
    words.train_from_iterator(SENTENCES, trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [True, False])
def test_sentences_are_means_of_the_last_hidden_states(llama, chat):
    encoder = LanguageModelText(str(llama), dim=32, chat=chat)
    network = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    for sentence, vector in zip(SENTENCES, encoder(SENTENCES), strict=True):
        framed = f"<s>user: {sentence}</s><s>assistant:" if chat else sentence
        tokens = tokenizer(framed, return_tensors="pt", add_special_tokens=not chat).input_ids
        with torch.no_grad():
            hidden = network(tokens, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(vector, hidden[0].mean(0))


def test_mistakes_get_one_line(llama, tmp_path):
    with pytest.raises(ConfigError, match="dim=48, but .* has 32"):
        LanguageModelText(str(llama), dim=48)(SENTENCES)
    with pytest.raises(WeightsError, match="is unavailable"):
        LanguageModelText(str(tmp_path / "nothing"), dim=32)(SENTENCES)


def test_segformer_has_the_published_size_and_starts_from_a_folder(tmp_path):
    network = SegFormer(15)
    logits = network(torch.rand(1, 3, 64, 96))
    assert logits.shape == (1, 15, 16, 24)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(27.4, abs=0.1)  # mit-b2 with its head
    small = {"depths": [1, 1, 1, 1], "widths": [32, 64, 160, 256]}
    config = transformers.SegformerConfig(depths=small["depths"], hidden_sizes=small["widths"])
    trunk = transformers.SegformerModel(config)
    trunk.save_pretrained(tmp_path / "trunk")
    started = SegFormer(15, **small, weights=str(tmp_path / "trunk"))
    started.load_pretrained()
    for name, value in trunk.state_dict().items():
        assert torch.equal(started.trunk.state_dict()[name], value), name
    with pytest.raises(WeightsError, match="another size"):
        SegFormer(15, weights=str(tmp_path / "trunk")).load_pretrained()
