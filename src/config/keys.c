#include "keys.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define AT(field)    .offset = offsetof(dft_config, field)
#define OF(field)    .offset = offsetof(dft_config_phase, field), .phase = true
#define COUNT(field) .count_offset = offsetof(dft_config, field)
#define FROM(a, b)   .low = (a), .high = (b)
#define ANY_COUNT    .low = 0, .high = 0x1p62
#define DECIDES      .decides = true
#define AUGMENT(f)   AT(data.augment.f), DECIDES
#define SYMMETRIC    .symmetric = true

#define ARRAYS  (1u << DFT_DATA_IDX | 1u << DFT_DATA_NPY)
#define FOLDERS (1u << DFT_DATA_IMAGE_FOLDER | 1u << DFT_DATA_TAR)
#define RANDOM  (1u << DFT_DATA_RANDOM)
#define ADAMS   (1u << DFT_ADAM | 1u << DFT_ADAMW)
#define SGD     (1u << DFT_SGD)
#define ADAMW   (1u << DFT_ADAMW)

const dft_key dft_keys[] = {
    {"seed", DFT_KEY_INT64, AT(seed), ANY_COUNT, .preset = "42", DECIDES,
     .keras = "keras.utils.set_random_seed",
     .help = "Start of every random choice: weights, order of samples, dropout, splits. At most 2^62."},
    {"run_dir", DFT_KEY_PATH, AT(run_dir),
     .help = "Directory of the run's checkpoints and logs, not among class folders. Default: runs/NAME for a "
             "config NAME.yaml."},

    {"model.name", DFT_KEY_TEXT, AT(model.name), .words = "mobilenet_v2", .preset = "mobilenet_v2", DECIDES,
     .keras = "keras.applications.MobileNetV2", .help = "The network."},
    {"model.alpha", DFT_KEY_REAL, AT(model.alpha), FROM(0, 8), .low_open = true, .preset = "1.0", DECIDES,
     .keras = "MobileNetV2(alpha)",
     .help = "Width: the number of channels is scaled by it and rounded as in Keras."},
    {"model.input_shape", DFT_KEY_SHAPE, AT(model.height), FROM(32, 4096), .preset = "[96, 96, 3]", DECIDES,
     .keras = "MobileNetV2(input_shape)", .help = "[height, width, 3] in pixels; images are resized to it."},
    {"model.pooling", DFT_KEY_WORD, AT(model.pooling), .words = "avg max", .preset = "avg", DECIDES,
     .keras = "MobileNetV2(pooling)", .help = "How the last feature map becomes one vector."},
    {"model.classes", DFT_KEY_INT, AT(model.classes), FROM(2, 100000), .preset = "5", DECIDES,
     .keras = "Dense(units)", .help = "Number of classes of the head."},
    {"model.class_names", DFT_KEY_TEXTS, AT(model.class_names), COUNT(model.class_name_count), DECIDES,
     .help = "A name for each class. Default: from the data (class folders, classes.txt), else \"0\", \"1\", "
             "… For "
             "image_folder it gives the order of the class folders, as Keras' class_names does; with "
             "data.classes_subset it names the kept ones, in their order."},
    {"model.dropout", DFT_KEY_REAL, AT(model.dropout), FROM(0, 1), .high_open = true, .preset = "0.0",
     DECIDES, .keras = "Dropout(rate)", .help = "Dropout before the head."},
    {"model.weights", DFT_KEY_PATH, AT(model.weights), .words = "none imagenet", .word_is_null = true,
     .preset = "none", DECIDES, .keras = "MobileNetV2(weights)",
     .help = "Weights to start from: a file (.h5, .weights.h5, .safetensors, .onnx, .pb, known by content), "
             "none, or imagenet: the "
             "file that Keras itself caches."},

    {"data.format", DFT_KEY_WORD, AT(data.format), .words = "random idx npy image_folder tar",
     .required = true, DECIDES, .help = "What the data files are."},
    {"data.batch_size", DFT_KEY_INT, AT(data.batch_size), FROM(1, 1 << 24), .preset = "10", DECIDES,
     .keras = "fit(batch_size)", .help = "Samples per step over all ranks together, whatever their number."},
    {"data.shuffle", DFT_KEY_BOOL, AT(data.shuffle), .preset = "true", DECIDES, .keras = "fit(shuffle)",
     .help = "A new order of the training samples in each epoch."},
    {"data.preprocessing", DFT_KEY_WORD, AT(data.preprocessing), .words = "mobilenet_v2 unit none",
     .preset = "mobilenet_v2", DECIDES, .keras = "mobilenet_v2.preprocess_input",
     .help = "mobilenet_v2: value/127.5-1; unit: value/255; none. Applies to values, whatever their type: "
             "floats in [0, 1] have to be multiplied by 255, or made [-1, 1] for none."},
    {"data.resize", DFT_KEY_WORD, AT(data.resize), .words = "stretch crop pad", .preset = "stretch", DECIDES,
     .keras = "image_dataset_from_directory",
     .help =
         "How an image of another size becomes input_shape, bilinear: stretch changes the proportions, crop "
         "cuts the longer side, pad adds zeros before resizing (crop_to_aspect_ratio, pad_to_aspect_ratio of "
         "keras.ops.image.resize; image_dataset_from_directory pads after it, up to two pixels elsewhere)."},
    {"data.train.path", DFT_KEY_PATH, AT(data.train.path), .required = true, .when = FOLDERS, DECIDES,
     .keras = "image_dataset_from_directory(directory)",
     .help = "Training data: a folder with a folder of images per class, sorted by name as in Keras; or tar "
             "shards: a file, a directory, a pattern as in shard-{0000..0127}.tar or shard-*.tar."},
    {"data.train.images", DFT_KEY_PATH, AT(data.train.images), .required = true, .when = ARRAYS, DECIDES,
     .keras = "fit(x)", .help = "Training images: an IDX file (plain or gzip) or an .npy of [N,H,W,3]."},
    {"data.train.labels", DFT_KEY_PATH, AT(data.train.labels), .required = true, .when = ARRAYS, DECIDES,
     .keras = "fit(y)", .help = "Their labels, in the same format."},
    {"data.train.samples", DFT_KEY_INT64, AT(data.train.samples), FROM(1, 0x1p40), .required = true,
     .when = RANDOM, DECIDES, .help = "Number of random training images (uniform in [0,1), labels uniform)."},
    {"data.validation.path", DFT_KEY_PATH, AT(data.validation.path), .when = FOLDERS, DECIDES,
     .keras = "fit(validation_data)", .help = "Validation data, as data.train.path."},
    {"data.validation.images", DFT_KEY_PATH, AT(data.validation.images), .when = ARRAYS, DECIDES,
     .keras = "fit(validation_data)", .help = "Validation images, as data.train.images."},
    {"data.validation.labels", DFT_KEY_PATH, AT(data.validation.labels), .when = ARRAYS, DECIDES,
     .keras = "fit(validation_data)", .help = "Their labels."},
    {"data.validation.samples", DFT_KEY_INT64, AT(data.validation.samples), FROM(0, 0x1p40), .preset = "0",
     .when = RANDOM, DECIDES, .help = "Number of random validation images."},
    {"data.validation.split", DFT_KEY_REAL, AT(data.validation.split), FROM(0, 1), .high_open = true,
     .preset = "0", DECIDES, .keras = "fit(validation_split)",
     .help = "Instead of own data: this fraction of the training samples, seeded and stratified by class."},
    {"data.classes_subset", DFT_KEY_INTS, AT(data.classes_subset), COUNT(data.classes_subset_count),
     FROM(0, INT_MAX), DECIDES,
     .help = "Keep only these labels, renumbered 0, 1, … in this order. Default: all."},
    {"data.limit", DFT_KEY_INT64, AT(data.limit), ANY_COUNT, .preset = "0", DECIDES,
     .help = "At most this many training samples, by seeded choice (0: all). Order: subset, split, limits."},
    {"data.limit_per_class", DFT_KEY_INT64, AT(data.limit_per_class), ANY_COUNT, .preset = "0", DECIDES,
     .help = "At most this many training samples of each class, by seeded choice (0: all)."},
    {"data.augment.flip", DFT_KEY_WORD, AUGMENT(flip),
     .words = "none horizontal vertical horizontal_and_vertical", .preset = "none",
     .keras = "RandomFlip(mode)",
     .help = "Training images only, as all of data.augment: mirrors half of them, drawn anew in each epoch."},
    {"data.augment.crop.scale", DFT_KEY_RANGE, AUGMENT(crop_scale), FROM(0, 1), .low_open = true,
     .preset = "[1, 1]", .keras = "torchvision RandomResizedCrop(scale)",
     .help = "Cuts out a part of this share of the area and resizes it to the whole; [1, 1]: no crop."},
    {"data.augment.crop.ratio", DFT_KEY_RANGE, AUGMENT(crop_ratio), FROM(0, 100), .low_open = true,
     .preset = "[0.75, 1.3333333333333333]", .keras = "torchvision RandomResizedCrop(ratio)",
     .help = "Width of the part over its height, in pixels of input_shape."},
    {"data.augment.rotation", DFT_KEY_RANGE, AUGMENT(rotation), FROM(-1, 1), SYMMETRIC, .preset = "0",
     .keras = "RandomRotation(factor)", .help = "Turns by this fraction of a full turn."},
    {"data.augment.zoom", DFT_KEY_RANGE, AUGMENT(zoom), FROM(-1, 1), .low_open = true, SYMMETRIC,
     .preset = "0", .keras = "RandomZoom(height_factor)",
     .help = "Shows 1 + this of the height and width: below 0 zooms in."},
    {"data.augment.translation", DFT_KEY_RANGE, AUGMENT(translation), FROM(-1, 1), SYMMETRIC, .preset = "0",
     .keras = "RandomTranslation(height_factor, width_factor)",
     .help = "Moves down and to the right by this fraction of the height and of the width, drawn apart."},
    {"data.augment.fill_mode", DFT_KEY_WORD, AUGMENT(fill_mode), .words = "reflect constant nearest wrap",
     .preset = "reflect", .keras = "RandomRotation(fill_mode)",
     .help = "What lies beyond the image's border where one of the above or RandAugment shows it."},
    {"data.augment.fill_value", DFT_KEY_REAL, AUGMENT(fill_value), FROM(-1e6, 1e6), .preset = "0",
     .keras = "RandomRotation(fill_value)", .help = "The value of fill_mode: constant and of erased pixels."},
    {"data.augment.value_range", DFT_KEY_RANGE, AUGMENT(value_range), FROM(-1e6, 1e6), .preset = "[0, 255]",
     .when = ARRAYS | FOLDERS, .keras = "RandomBrightness(value_range)",
     .help =
         "What the images' values lie in before preprocessing; set it for .npy images of floats in [0, 1]."},
    {"data.augment.value_range", DFT_KEY_RANGE, AUGMENT(value_range), FROM(-1e6, 1e6), .preset = "[0, 1]",
     .when = RANDOM, .keras = "RandomBrightness(value_range)",
     .help = "What the images' values lie in before preprocessing."},
    {"data.augment.rand_augment.num_ops", DFT_KEY_INT, AUGMENT(num_ops), FROM(0, 16), .preset = "0",
     .keras = "RandAugment(num_ops)",
     .help = "This many operations, drawn from torchvision's fourteen, one after another; 0: none."},
    {"data.augment.rand_augment.magnitude", DFT_KEY_INT, AUGMENT(magnitude), FROM(0, 30), .preset = "9",
     .keras = "torchvision RandAugment(magnitude)", .help = "How strong they are; 30 is the most."},
    {"data.augment.brightness", DFT_KEY_RANGE, AUGMENT(brightness), FROM(-1, 1), SYMMETRIC, .preset = "0",
     .keras = "RandomBrightness(factor)", .help = "Added to all values, as a fraction of value_range."},
    {"data.augment.contrast", DFT_KEY_RANGE, AUGMENT(contrast), FROM(-1, 1), SYMMETRIC, .preset = "0",
     .keras = "RandomContrast(factor)",
     .help = "Distances from each channel's mean are multiplied by 1 + this."},
    {"data.augment.saturation", DFT_KEY_RANGE, AUGMENT(saturation), FROM(-1, 1), SYMMETRIC, .preset = "0",
     .keras = "torchvision ColorJitter(saturation)",
     .help = "Distances from grey are multiplied by 1 + this."},
    {"data.augment.erasing.probability", DFT_KEY_REAL, AUGMENT(erasing), FROM(0, 1), .preset = "0",
     .keras = "torchvision RandomErasing(p)",
     .help = "Share of the images that lose a rectangle to fill_value."},
    {"data.augment.erasing.scale", DFT_KEY_RANGE, AUGMENT(erasing_scale), FROM(0, 1),
     .preset = "[0.02, 0.33]", .keras = "RandomErasing(scale)", .help = "Its share of the area."},
    {"data.augment.erasing.ratio", DFT_KEY_RANGE, AUGMENT(erasing_ratio), FROM(0, 100), .low_open = true,
     .preset = "[0.3, 3.3]", .keras = "torchvision RandomErasing(ratio)",
     .help = "Its height over its width, in pixels of input_shape."},
    {"data.augment.mixup", DFT_KEY_REAL, AUGMENT(mixup), FROM(0, 100), .preset = "0", .keras = "MixUp(alpha)",
     .help = "Mixes each image and label of a batch with another of it, by weights of Beta(alpha, alpha); 0: "
             "off. "
             "With cutmix too, each batch has one of the two. Each image is read twice."},
    {"data.augment.cutmix", DFT_KEY_REAL, AUGMENT(cutmix), FROM(0, 100), .preset = "0",
     .keras = "CutMix(factor)",
     .help = "Replaces a rectangle of each image of a batch by another's, the labels mixed as the areas."},
    {"data.on_corrupt", DFT_KEY_WORD, AT(data.on_corrupt), .words = "skip fail", .preset = "skip", DECIDES,
     .help = "An unreadable sample: skip (it keeps its place with weight 0) or fail."},
    {"data.decoded_cache", DFT_KEY_PATH, AT(data.decoded_cache), .words = "none", .word_is_null = true,
     .preset = "none", .when = FOLDERS,
     .help = "Directory that keeps images decoded and reduced in a file, so that later epochs and runs "
             "decode nothing "
             "whose frozen work they do not find either. At most 12 bytes (resize: crop: 24) per pixel of "
             "input_shape and image. Several "
             "runs may share it. dft deletes nothing in it. An image is decoded again when the size or time "
             "of change of "
             "its file is another. Where it cannot be used, a warning says why."},
    {"data.threads", DFT_KEY_INT, AT(data.threads), FROM(1, 1024), .words = "auto", .word_value = 0,
     .preset = "auto", .keras = "fit(workers)",
     .help =
         "Threads per rank that decode images ahead of their step. auto: the cores that the rank may use for "
         "image files, none for arrays."},

    {"name", DFT_KEY_TEXT, OF(name), DECIDES,
     .help = "Name of the phase in logs. Default: phase_1, phase_2, …"},
    {"unfreeze_last", DFT_KEY_INT64, OF(unfreeze_last), FROM(0, 100000), .preset = "0", DECIDES,
     .keras = "base.layers[-N:]",
     .help =
         "The last N layers of the base are trainable, among them the pooling layer that ends it, as with "
         "MobileNetV2(pooling='avg'); where GlobalAveragePooling2D is a layer of its own above the base, "
         "Keras' N is N + 1 here. The head always is; a phase's set is complete, not added to the one "
         "before. At most one of the three unfreeze keys."},
    {"unfreeze_from", DFT_KEY_TEXT, OF(unfreeze_from), DECIDES, .keras = "layer.trainable",
     .help = "This layer of the base and all after it are trainable."},
    {"unfreeze", DFT_KEY_TEXTS, OF(unfreeze), .count_offset = offsetof(dft_config_phase, unfreeze_count),
     .words = "all", .word_is_null = true, DECIDES, .keras = "layer.trainable",
     .help = "Layers whose names match one of these globs are trainable, as in [\"block_16_*\", "
             "\"Conv_1*\"]; or all."},
    {"epochs", DFT_KEY_INT, OF(epochs), FROM(1, 1000000), .required = true, DECIDES, .keras = "fit(epochs)",
     .help = "Passes over the training samples."},
    {"optimizer.name", DFT_KEY_WORD, OF(optimizer.name), .words = "adam adamw sgd", .preset = "adam", DECIDES,
     .keras = "compile(optimizer)", .help = "The optimizer, fresh at each phase."},
    {"optimizer.learning_rate", DFT_KEY_REAL, OF(optimizer.learning_rate), FROM(0, 1e6), .preset = "0.001",
     .when = ADAMS, DECIDES, .keras = "learning_rate", .help = "Learning rate."},
    {"optimizer.learning_rate", DFT_KEY_REAL, OF(optimizer.learning_rate), FROM(0, 1e6), .preset = "0.01",
     .when = SGD, DECIDES, .keras = "learning_rate", .help = "Learning rate."},
    {"optimizer.beta_1", DFT_KEY_REAL, OF(optimizer.beta_1), FROM(0, 1), .high_open = true, .preset = "0.9",
     .when = ADAMS, DECIDES, .keras = "beta_1", .help = "Decay of the first moment."},
    {"optimizer.beta_2", DFT_KEY_REAL, OF(optimizer.beta_2), FROM(0, 1), .high_open = true, .preset = "0.999",
     .when = ADAMS, DECIDES, .keras = "beta_2", .help = "Decay of the second moment."},
    {"optimizer.epsilon", DFT_KEY_REAL, OF(optimizer.epsilon), FROM(0, 1e6), .low_open = true,
     .preset = "1e-7", .when = ADAMS, DECIDES, .keras = "epsilon",
     .help = "Added to the root of the second moment."},
    {"optimizer.momentum", DFT_KEY_REAL, OF(optimizer.momentum), FROM(0, 1), .preset = "0.0", .when = SGD,
     DECIDES, .keras = "momentum", .help = "Momentum."},
    {"optimizer.nesterov", DFT_KEY_BOOL, OF(optimizer.nesterov), .preset = "false", .when = SGD, DECIDES,
     .keras = "nesterov", .help = "Nesterov's momentum."},
    {"optimizer.weight_decay", DFT_KEY_REAL, OF(optimizer.weight_decay), FROM(0, 1e6), .preset = "0.0",
     .when = SGD | 1u << DFT_ADAM, DECIDES, .keras = "weight_decay",
     .help = "Decoupled weight decay; 0 is Keras' None."},
    {"optimizer.weight_decay", DFT_KEY_REAL, OF(optimizer.weight_decay), FROM(0, 1e6), .preset = "0.004",
     .when = ADAMW, DECIDES, .keras = "weight_decay", .help = "Decoupled weight decay."},

    {"batch_norm", DFT_KEY_WORD, AT(batch_norm), .words = "sync frozen", .preset = "sync", DECIDES,
     .keras = "BatchNormalization(trainable)",
     .help = "Trainable BatchNorm: sync uses the statistics of the global batch, as one Keras process would; "
             "frozen keeps BatchNorm layers out of every trainable set."},
    {"distributed.backend", DFT_KEY_WORD, AT(distributed.backend), .words = "auto mpi nccl", .preset = "auto",
     .help =
         "What carries the exchange. auto: nccl when every rank has a GPU of its own, else mpi; the start "
         "table says which and why."},
    {"distributed.shards", DFT_KEY_INT, AT(distributed.shards), FROM(1, 4096), .power_of_two = true,
     .words = "auto", .word_value = 0, .preset = "auto",
     .help = "Pieces of a batch that are summed in a fixed order, a power of two at or above the number of "
             "ranks. "
             "auto: 8, or the next one. It decides the last bits, and so the result is one for any number of "
             "ranks "
             "up to it. A checkpoint keeps its own; another explicit value is refused."},
    {"distributed.reduction", DFT_KEY_WORD, AT(distributed.reduction), .words = "ordered fast",
     .preset = "ordered", DECIDES,
     .help = "ordered: same bits for any number of ranks; fast: plain MPI_Allreduce or ncclAllReduce, for "
             "comparison."},
    {"distributed.timeout_s", DFT_KEY_REAL, AT(distributed.timeout_s), FROM(0, 1e9), .low_open = true,
     .preset = "300",
     .help = "Seconds without progress of a peer after which the run ends with exit code 76."},
    {"compute.threads", DFT_KEY_INT, AT(compute.threads), FROM(1, DFT_MOST_THREADS), .words = "auto",
     .word_value = 0, .preset = "auto",
     .help = "Computing threads per rank; auto: OMP_NUM_THREADS, or the cores that the rank may use."},
    {"compute.prefix", DFT_KEY_WORD, AT(compute.prefix), .words = "float32 bfloat16", .preset = "float32",
     DECIDES,
     .help = "Arithmetic of the frozen layers whose outputs are kept. bfloat16: factors of pointwise "
             "convolutions "
             "rounded to it, sums in float32. Pays with AMX, and by VDPBF16PS on AMD's CPUs; elsewhere it is "
             "no faster. Same result on every CPU without AMX; with it sums have another order "
             "(DFT_KERNELS=avx512: as without)."},
    {"compute.precision", DFT_KEY_WORD, AT(compute.precision), .words = "float32 tf32 bfloat16",
     .preset = "float32", DECIDES, .keras = "keras.mixed_precision",
     .help =
         "Arithmetic of the layers that train, on GPUs. tf32: factors of products rounded to 10 bits; "
         "bfloat16: activations and factors in bfloat16, sums, weights and statistics in float32. Kernels "
         "of a CPU have float32 alone."},
    {"cache.mode", DFT_KEY_WORD, AT(cache.mode), .words = "auto off", .preset = "auto",
     .help = "Keep the frozen layers' outputs, so that they are computed once."},
    {"cache.memory_mb", DFT_KEY_INT64, AT(cache.memory_mb), FROM(0, 0x1p40), .preset = "2048",
     .help = "Memory for it per host, in MB; does not bound what cache.directory keeps."},
    {"cache.directory", DFT_KEY_PATH, AT(cache.directory), .words = "none", .word_is_null = true,
     .preset = "none",
     .help =
         "Directory that keeps the cache in files for later runs with the same build, kernels, frozen "
         "weights, preprocessing, image size and data (names, sizes and times of change of image files; of "
         "arrays values and time of change: copy them with cp -p). Several runs may share it. dft deletes "
         "nothing in it. Where it "
         "cannot be used, a "
         "warning says why and memory is."},
    {"cache.views", DFT_KEY_INT, AT(cache.views), FROM(0, 1024), .preset = "0", DECIDES,
     .help =
         "With data.augment: each image has this many fixed augmented views, which epochs use in turn, so "
         "that the cache can keep them. 0: a new view in each epoch, and training images are not kept."},
    {"checkpoint.every_epochs", DFT_KEY_INT, AT(checkpoint.every_epochs), FROM(0, 1000000), .preset = "1",
     .keras = "ModelCheckpoint(save_freq)", .help = "Save after every N epochs (0: only at the end)."},
    {"checkpoint.every_steps", DFT_KEY_INT, AT(checkpoint.every_steps), FROM(0, INT_MAX), .preset = "0",
     .keras = "ModelCheckpoint(save_freq)", .help = "Save also after every N steps (0: no)."},
    {"checkpoint.keep", DFT_KEY_INT, AT(checkpoint.keep), FROM(1, 1000000), .preset = "3",
     .help = "Number of newest checkpoints to keep, best and final apart."},
    {"checkpoint.resume", DFT_KEY_PATH, AT(checkpoint.resume), .words = "auto none", .preset = "auto",
     .keras = "BackupAndRestore",
     .help = "auto: go on from the newest checkpoint in run_dir; none: refuse a run_dir that has any; or the "
             "path of a checkpoint to begin from, where run_dir has none of its own."},
    {"checkpoint.monitor", DFT_KEY_WORD, AT(checkpoint.monitor), .words = "val_loss val_accuracy",
     .preset = "val_loss", DECIDES, .keras = "ModelCheckpoint(monitor)",
     .help = "What best.pb is best in; val_loss means loss where there is no validation."},
    {"on_nonfinite", DFT_KEY_WORD, AT(on_nonfinite), .words = "abort skip", .preset = "abort", DECIDES,
     .keras = "TerminateOnNaN",
     .help = "A loss or gradient that is not finite: abort with exit code 70, or skip the step (10 in a row "
             "are the most)."},
    {"log.verbose", DFT_KEY_INT, AT(log.verbose), FROM(0, 2), .words = "auto", .word_value = -1,
     .preset = "auto", .keras = "fit(verbose)",
     .help = "0 silent, 1 progress bar, 2 one line per epoch; auto: 1 on a terminal, else 2."},
    {"log.tensorboard", DFT_KEY_BOOL, AT(log.tensorboard), .preset = "true",
     .keras = "keras.callbacks.TensorBoard", .help = "Write TensorBoard events."},
    {"log.trace_steps", DFT_KEY_INT, AT(log.trace_steps), FROM(0, 1000), .preset = "0",
     .keras = "TensorBoard(profile_batch)",
     .help = "Write run_dir/trace.json: what each rank does when, in so many steps from each start."},
};
const int dft_key_count = sizeof dft_keys / sizeof dft_keys[0];

void dft_key_path(const dft_key *key, int phase, char path[DFT_KEY_PATH_BYTES]) {
  if (!key->phase)
    snprintf(path, DFT_KEY_PATH_BYTES, "%s", key->path);
  else if (phase < 0)
    snprintf(path, DFT_KEY_PATH_BYTES, "phases.N.%s", key->path);
  else
    snprintf(path, DFT_KEY_PATH_BYTES, "phases.%d.%s", phase, key->path);
}

void *dft_key_field(const dft_key *key, const dft_config *config, int phase) {
  char *base = key->phase ? (char *)&config->phases[phase] : (char *)config;
  return base + key->offset;
}

int *dft_key_count_field(const dft_key *key, const dft_config *config, int phase) {
  char *base = key->phase ? (char *)&config->phases[phase] : (char *)config;
  return (int *)(void *)(base + key->count_offset);
}

bool dft_key_applies(const dft_key *key, const dft_config *config, int phase) {
  if (key->when == 0) return true;
  unsigned choice =
      key->phase ? (unsigned)config->phases[phase].optimizer.name : (unsigned)config->data.format;
  return (key->when >> choice & 1u) != 0;
}

void dft_word_at(const char *words, int i, char text[DFT_WORD_BYTES]) {
  const char *w = words;
  while (i-- > 0 && *w != '\0') {
    w += strcspn(w, " ");
    if (*w == ' ') w++;
  }
  snprintf(text, DFT_WORD_BYTES, "%.*s", (int)strcspn(w, " "), w);
}

int dft_word_index(const char *words, const char *word) {
  char candidate[DFT_WORD_BYTES];
  for (int i = 0; words != NULL; i++) {
    dft_word_at(words, i, candidate);
    if (candidate[0] == '\0') return -1;
    if (strcmp(candidate, word) == 0) return i;
  }
  return -1;
}

static const char *words_of(const char *path) {
  for (int i = 0; i < dft_key_count; i++)
    if (dft_keys[i].words != NULL && strcmp(dft_keys[i].path, path) == 0) return dft_keys[i].words;
  return "";
}

const char *dft_config_word(const char *key, int value, char text[DFT_WORD_BYTES]) {
  dft_word_at(words_of(key), value, text);
  return text;
}

int dft_config_word_value(const char *key, const char *word) {
  return dft_word_index(words_of(key), word);
}
