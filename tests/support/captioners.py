"""Tiny captioners of several families, of random weights, as `save_pretrained` writes.

What they say means nothing; that they are asked as the published ones are is the point.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

SAID = [f"w{i}" for i in range(60)]
ASKED = (
    "Describe this picture in one sentence what does the image User Assistant".split()
)
# As SmolVLM's own.
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}"
    "{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}"
    "{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def make_tokenizer(special, template="$A", more=(), **words):
    """Return a tokenizer of whole words, `<pad>` being what is not among them."""
    names = ["<pad>", "<s>", "</s>", *special, *SAID, *ASKED, *more]
    ids = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special,
        **words,
    )


def louder(network):
    """Let pictures and prompts be heard, of which random networks say the same."""
    for name, weight in network.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            weight.data.mul_(30)


def save_chat(folder, **words):
    """Save an Idefics3, the class of SmolVLM, which cuts large pictures into tiles."""
    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    special = ["<image>", "<fake_token_around_image>", "<end_of_utterance>"]
    special += ["<global-img>", "<|im_start|>", *tiles]
    tokenizer = make_tokenizer(special, **words)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = Idefics3Config(
        text_config={
            **LAYERS,
            **ids,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 2,
            "intermediate_size": 16,
        },
        vision_config={
            **LAYERS,
            "intermediate_size": 16,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    louder(model.model)
    model.save_pretrained(folder)
    edge = {"longest_edge": 32}
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size=edge)
    # (32 / 8)² places, of which each square of 2 x 2 becomes one token.
    processor = Idefics3Processor(pictures, tokenizer, 4, chat_template=TEMPLATE)
    processor.save_pretrained(folder)
    return folder


def save_florence2(folder):
    """Save a Florence-2: DaViT and BART, whose tasks are asked for by a token."""
    tokenizer = make_tokenizer(
        ["<image>"], "<s> $A </s>", extra_special_tokens={"image_token": "<image>"}
    )
    config = Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
        },
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 8, 16, 16],
            "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2],
            "window_size": 2,
            "projection_dim": 16,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = Florence2ForConditionalGeneration(config)
    louder(model.model.language_model)
    model.save_pretrained(folder)
    edges = {"height": 64, "width": 64}
    pictures = CLIPImageProcessorPil(size=edges, crop_size=edges, do_center_crop=False)
    pictures.image_seq_length = 2 * 2 + 1  # of the last grid, and their mean
    Florence2Processor(pictures, tokenizer).save_pretrained(folder)
    return folder


def save_git(folder, **words):
    """Save a GIT: one stack that reads the picture's patches, then its own words."""
    tokenizer = make_tokenizer([], "<s> $A </s>", **words)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = GitConfig(
        vision_config={
            **LAYERS,
            "intermediate_size": 16,
            "image_size": 32,
            "patch_size": 16,
        },
        **LAYERS,
        **ids,
        vocab_size=len(tokenizer),
        intermediate_size=16,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = GitForCausalLM(config)
    louder(model)
    model.save_pretrained(folder)
    edges = {"height": 32, "width": 32}
    pictures = CLIPImageProcessorPil(size=edges, crop_size=edges)
    GitProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder
