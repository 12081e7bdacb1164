"""Image files -> float32 [96, 96, 3] in [-1, 1], by Pillow or tf.data, on as many cores as the process has.

    decode_worker.py make FOLDER
    decode_worker.py pillow-draft | pillow | tf SECONDS FILE...      prints images/s, and
                                                                 CPU microseconds per image
"""
import glob
import io
import multiprocessing
import os
import resource
import sys
import time

import numpy as np

SIDE = 96


def photo(random, height, width):
    """Noise with the spectrum of photographs (amplitudes fall as 1/f), brightness stronger than colour."""
    spread = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None] ** 2)
    spread[0, 0] = 1
    planes = []
    for _ in range(4):
        plane = np.fft.irfft2(np.fft.rfft2(random.normal(size=(height, width))) / spread ** 1.2, (height, width))
        planes.append(plane / plane.std())
    rgb = np.stack([planes[0] * 50 + planes[1 + c] * 12 + 120 for c in range(3)], -1)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def make(folder):
    from PIL import Image
    random = np.random.default_rng(42)
    for name, height, width, count in (("small", 375, 500, 24), ("large", 1200, 1600, 8)):
        for i in range(count):
            Image.fromarray(photo(random, height, width)).save(f"{folder}/{name}-{i:02}.jpg", quality=90)


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pillow_images(files, draft, first, step, seconds, counts):
    from PIL import Image
    done, end, cpu = 0, time.perf_counter() + seconds, cpu_s()
    while time.perf_counter() < end:
        image = Image.open(io.BytesIO(files[(first + done * step) % len(files)]))
        if draft:
            image.draft("RGB", (SIDE, SIDE))
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        np.asarray(small, np.float32) / 127.5 - 1
        done += 1
    counts.put((done, cpu_s() - cpu))


def pillow(files, draft, seconds):
    cores = len(os.sched_getaffinity(0))
    counts = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=pillow_images, args=(files, draft, i, cores, seconds, counts)) for i in range(cores)]
    start = time.perf_counter()
    for w in workers:
        w.start()
    done, cpu = (sum(x) for x in zip(*[counts.get() for _ in workers]))
    elapsed = time.perf_counter() - start
    for w in workers:
        w.join()
    return done / elapsed, cpu / done


def tensorflow(files, seconds):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    def read(content):
        image = tf.image.resize(tf.io.decode_jpeg(content, channels=3), (SIDE, SIDE))
        return image / 127.5 - 1

    data = tf.data.Dataset.from_tensor_slices(files).repeat().map(read, num_parallel_calls=tf.data.AUTOTUNE)
    batches = iter(data.batch(16).prefetch(1))
    for _ in range(4):
        next(batches)  # AUTOTUNE finds its way
    done, start, cpu = 0, time.perf_counter(), cpu_s()
    while time.perf_counter() - start < seconds:
        done += len(next(batches))
    return done / (time.perf_counter() - start), (cpu_s() - cpu) / done


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        contents = [open(f, "rb").read() for f in sys.argv[3:]]
        limit = float(sys.argv[2])
        rate, cpu = tensorflow(contents, limit) if sys.argv[1] == "tf" else pillow(contents, sys.argv[1] == "pillow-draft", limit)
        print(f"{rate:.1f} {1e6 * cpu:.1f}")
