"""The model of the seed program in Keras, and its two phases."""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
from worker import CLASSES, CORES, SHAPE

tf.config.threading.set_intra_op_parallelism_threads(CORES)
tf.config.threading.set_inter_op_parallelism_threads(CORES)


def build():
    base = keras.applications.MobileNetV2(input_shape=SHAPE, include_top=False, weights=None, pooling="avg")
    base.trainable = False
    head = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")
    return base, keras.Model(base.input, head(base.output))


def compile_for(base, model, phase):
    """phase: "head", "tail" (the last 20 layers) or "all"."""
    base.trainable = phase != "head"
    if phase == "tail":
        for layer in base.layers[:-20]:
            layer.trainable = False
    rate = 1e-3 if phase == "head" else 1e-5
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
