"""The plugins in NVIDIA's own registry (TensorRT 11.4), without a GPU."""

from collections.abc import Callable

Run = Callable[[str], str]

FIELDS = """
import numpy as np, tensorrt as trt
def fields(epsilon):
    data = np.array([epsilon], np.float32)
    return trt.PluginFieldCollection(
        [trt.PluginField("epsilon", data, trt.PluginFieldType.FLOAT32)])
registry = trt.get_plugin_registry()
phase = trt.TensorRTPhase.BUILD
"""
PYTHON = FIELDS + "from skyfix.export.plugins.linear_attention.plugin import *\nregister()\n"
AHEAD = FIELDS + "from skyfix.export.plugins.linear_attention.aot import *\nregister()\n"


def test_the_registry_finds_the_creator_by_the_names_of_the_onnx_node(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        PYTHON + "creator = registry.get_creator('LinearAttention', '1', 'skyfix')\n"
        "print(creator.name, creator.plugin_version, creator.plugin_namespace)\n"
        "print([field.name for field in creator.field_names])"
    ).split("\n")[:2] == ["LinearAttention 1 skyfix", "['epsilon']"]


def test_registering_twice_is_no_error(with_tensorrt: Run) -> None:
    assert "done" in with_tensorrt(PYTHON + "register(); print('done')")


def test_the_creator_makes_a_plugin_with_the_attributes_of_the_node(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        PYTHON + "creator = registry.get_creator('LinearAttention', '1', 'skyfix')\n"
        "plugin = creator.create_plugin('layer', fields(2.5e-4), phase)\n"
        "print(plugin.epsilon, plugin.num_outputs, plugin.plugin_name, plugin.clone().epsilon)"
    ).split() == ["0.00025", "1", "LinearAttention", "0.00025"]


def test_a_node_without_an_epsilon_takes_the_published_one(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        PYTHON + "creator = LinearAttentionCreator()\n"
        "empty = trt.PluginFieldCollection([])\n"
        "print(creator.create_plugin('layer', empty, phase).epsilon)"
    ).split() == ["1e-06"]


def test_what_the_engine_keeps_makes_the_same_plugin_again(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        PYTHON + "creator = LinearAttentionCreator()\n"
        "kept = LinearAttentionPlugin(3e-5).get_fields_to_serialize()\n"
        "print(creator.create_plugin('layer', kept, trt.TensorRTPhase.RUNTIME).epsilon)"
    ).split() == ["3e-05"]


def test_a_negative_epsilon_is_refused(with_tensorrt: Run) -> None:
    assert "epsilon is -1.0" in with_tensorrt(
        PYTHON + "try: LinearAttentionCreator().create_plugin('layer', fields(-1), phase)\n"
        "except ValueError as error: print(error)"
    )


def test_only_contiguous_tensors_of_one_type_are_taken(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        PYTHON + "def described(type, format=trt.TensorFormat.LINEAR):\n"
        "    found = trt.DynamicPluginTensorDesc()\n"
        "    found.desc.type, found.desc.format = type, format\n"
        "    return found\n"
        "half, single = described(trt.DataType.HALF), described(trt.DataType.FLOAT)\n"
        "packed = described(trt.DataType.HALF, trt.TensorFormat.HWC8)\n"
        "taken = LinearAttentionPlugin(1e-6).supports_format_combination\n"
        "print(taken(0, [half] * 4, 3), taken(3, [single] * 4, 3))\n"
        "print(taken(0, [packed] * 4, 3), taken(1, [half, single, half, half], 3))\n"
        "print(taken(0, [described(trt.DataType.INT8)] * 4, 3))"
    ).split() == ["True", "True", "False", "False", "False"]


def test_shapes_that_do_not_belong_together_are_refused_with_the_reason(
    with_tensorrt: Run,
) -> None:
    told = with_tensorrt(
        PYTHON + "good = (2, 4, 9, 32)\n"
        "check_shapes([(2, 4, 5, 32), good, good])\n"
        "for bad in ([good] * 2, [(2, 4, 9)] * 3, [good, good, (2, 4, 8, 32)],\n"
        "            [(1, 4, 9, 32), good, good], [(2, 4, 9, 129)] * 3, [(70000, 4, 9, 32)] * 3):\n"
        "    try: check_shapes(bad)\n"
        "    except ValueError as error: print(error)"
    ).splitlines()
    words = ["4 dimensions", "4 dimensions", "key and value", "query (B", "at most 128", "65535"]
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_the_ahead_of_time_form_registers_and_makes_a_plugin(with_tensorrt: Run) -> None:
    assert with_tensorrt(
        AHEAD + "creator = registry.get_creator('LinearAttention', '1', 'skyfix')\n"
        "request = trt.QuickPluginCreationRequest.STRICT_AOT\n"
        "names = 'LinearAttention', 'skyfix'\n"
        "plugin = creator.create_plugin(*names, fields(1e-6), phase, request)\n"
        "print(type(plugin).__name__, plugin.num_outputs)"
    ).split()[-2:] == ["_TemplateAOTPlugin", "1"]
