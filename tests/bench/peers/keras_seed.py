"""The seed program, as configs/tutorial.yaml: 100 random images, batch 10, 3 + 2 epochs.

Prints "@ first step" when the first optimizer step is done.
"""
import numpy as np
from keras_model import build, compile_for, keras
from worker import CLASSES, SHAPE


class FirstStep(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 0 and not getattr(self, "said", False):
            self.said = True
            print("@ first step", flush=True)


keras.utils.set_random_seed(42)
random = np.random.default_rng(42)
x = random.random((100, *SHAPE), dtype=np.float32) / 127.5 - 1
y = random.integers(0, CLASSES, 100)
base, model = build()
compile_for(base, model, "head")
model.fit(x, y, batch_size=10, epochs=3, verbose=0, callbacks=[FirstStep()])
compile_for(base, model, "tail")
model.fit(x, y, batch_size=10, epochs=2, verbose=0)
