/* Datasets on several ranks of a host: all see the same samples, and every error is everybody's. Ranks that
 * plan another exchange are found before the first step. */
#include "../../src/train/train.h"
#include "dft/data.h"
#include "world.h"
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { SAMPLES = 60, SIDE = 32, VALUES = 3 * SIDE * SIDE };

static char directory[64];

static void put(const char *name, const unsigned char *data, unsigned count) {
  gzFile f = gzopen(name, strstr(name, ".gz") ? "wb6" : "wbT"); /* T: without packing */
  CHECK(f != NULL && gzwrite(f, data, count) == (int)count && gzclose(f) == Z_OK, "%s", name);
}

static void write_files(void) {
  static unsigned char images[16 + SAMPLES * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, SAMPLES,
                                                             0, 0, 0, SIDE, 0, 0, 0, SIDE};
  static unsigned char labels[8 + SAMPLES] = {0, 0, 8, 1, 0, 0, 0, SAMPLES};
  for (int i = 0; i < SAMPLES * SIDE * SIDE; i++) images[16 + i] = (unsigned char)(i * 7 + i / 1000);
  for (int i = 0; i < SAMPLES; i++) labels[8 + i] = (unsigned char)(i % 4);
  put("images.idx", images, sizeof images);
  put("images.idx.gz", images, sizeof images);
  put("short.idx.gz", images, sizeof images - 1);
  put("labels.idx", labels, sizeof labels);
}

static dft_config make_config(const char *images) {
  dft_config c = {.seed = 42, .model = {.height = SIDE, .width = SIDE, .classes = 4}};
  c.data.format = DFT_DATA_IDX;
  c.data.preprocessing = DFT_PREPROCESS_NONE;
  c.data.train = (dft_config_split){.present = true, .images = (char *)images, .labels = "labels.idx"};
  c.data.validation = (dft_config_split){.present = true, .split = 0.25};
  c.data.limit_per_class = 9;
  return c;
}

/* Every rank reads the same bits as a process alone would. */
static void all_ranks_see_the_same(const char *images) {
  dft_config c = make_config(images);
  dft_dataset *sets[2], *alone[2];
  OK(dft_data_open(&c, dft_comm_share(world), &sets[0], &sets[1]));
  OK(dft_data_open(&c, dft_share_alone(), &alone[0], &alone[1]));
  for (int k = 0; k < 2; k++) {
    CHECK(dft_dataset_count(sets[k]) == (k == 0 ? 36 : 16), "%d samples", (int)dft_dataset_count(sets[k]));
    for (int64_t i = 0; i < dft_dataset_count(sets[k]); i++) {
      static float mine[VALUES], expected[VALUES];
      OK(dft_dataset_image(sets[k], i, mine));
      OK(dft_dataset_image(alone[k], i, expected));
      CHECK(memcmp(mine, expected, sizeof mine) == 0, "%s, sample %d", images, (int)i);
      CHECK(dft_dataset_label(sets[k], i) == dft_dataset_label(alone[k], i), "%s, label %d", images, (int)i);
    }
    CHECK(dft_dataset_fingerprint(sets[k]) == dft_dataset_fingerprint(alone[k]), "%s", images);
  }
  dft_dataset_free(sets[1]); /* the pixels outlive the first to go */
  static float out[VALUES];
  OK(dft_dataset_image(sets[0], 0, out));
  dft_dataset_free(sets[0]);
  dft_dataset_free(alone[0]);
  dft_dataset_free(alone[1]);
}

static void errors_reach_all(const char *images, const char *words) {
  dft_config c = make_config(images);
  dft_dataset *train, *validation;
  dft_status status = dft_data_open(&c, dft_comm_share(world), &train, &validation);
  CHECK(status == DFT_EDATA && train == NULL && validation == NULL, "%s: status %d", images, (int)status);
  CHECK(strstr(dft_error(), images) != NULL && strstr(dft_error(), words) != NULL, "%s", words);
}

/* A folder of two classes, and in `extra` one image more. */
static void write_folder(void) {
  static const char *const files[] = {"folder/a/1.bmp", "folder/a/2.bmp", "folder/b/1.bmp", "extra/a/1.bmp",
                                      "extra/a/2.bmp",  "extra/b/1.bmp",  "extra/b/2.bmp"};
  static unsigned char bmp[62] = {
      'B', 'M', 62, [10] = 54, [14] = 40, [18] = 2, [22] = 1, [26] = 1, [28] = 24};
  static const char *const directories[] = {"folder", "folder/a", "folder/b", "extra", "extra/a", "extra/b"};
  for (int i = 0; i < 6; i++) CHECK(mkdir(directories[i], 0777) == 0, "%s", directories[i]);
  for (unsigned char i = 0; i < 7; i++) {
    bmp[56] = i;
    put(files[i], bmp, sizeof bmp);
  }
}

static dft_config folder_config(const char *path) {
  dft_config c = {.seed = 42, .model = {.height = SIDE, .width = SIDE, .classes = 2}};
  c.data.format = DFT_DATA_IMAGE_FOLDER;
  c.data.train = (dft_config_split){.present = true, .path = (char *)path};
  return c;
}

/* One listing for all ranks of a host; and hosts that list other files are told apart. */
static void folders_are_listed_once(void) {
  static float mine[VALUES], expected[VALUES];
  dft_config c = folder_config("folder");
  dft_dataset *d, *alone, *none;
  uint64_t fingerprint = 0;
  OK(dft_data_open(&c, dft_comm_share(world), &d, &none));
  OK(dft_data_open(&c, dft_share_alone(), &alone, &none));
  CHECK(dft_dataset_count(d) == 3, "%d samples", (int)dft_dataset_count(d));
  for (int64_t i = 0; i < 3; i++) {
    OK(dft_dataset_image(d, i, mine));
    OK(dft_dataset_image(alone, i, expected));
    CHECK(memcmp(mine, expected, sizeof mine) == 0, "sample %d", (int)i);
  }
  OK(dft_same_data(world, d, "training", &fingerprint));
  CHECK(fingerprint == dft_dataset_fingerprint(alone), " ");
  dft_dataset_free(d);
  dft_dataset_free(alone);
  c = folder_config("absent");
  CHECK(dft_data_open(&c, dft_comm_share(world), &d, &none) == DFT_EDATA, " ");
  CHECK(strstr(dft_error(), "absent") != NULL, " ");
  int ranks = dft_comm_size(world);
  c = folder_config(rank == ranks - 1 ? "extra" : "folder");
  OK(dft_data_open(&c, dft_share_alone(), &d, &none));
  dft_status status = dft_same_data(world, d, "training", &fingerprint);
  CHECK(status == (ranks > 1 ? DFT_EDATA : DFT_OK), "status %d", (int)status);
  CHECK(ranks == 1 || strstr(dft_error(), "the training data differ between host") != NULL, " ");
  dft_dataset_free(d);
}

/* The last rank is to train another layer: its buckets would be others, and a step would wait for what never
 * comes. So would one that saves, traces or keeps rows where the others do not. */
static void other_keys_are_refused(const char *override) {
  static const char text[] = "model: {alpha: 0.35, input_shape: [32, 32, 3], classes: 2}\n"
                             "data: {format: random, batch_size: 8, train: {samples: 8}}\n"
                             "phases: [{epochs: 1, unfreeze: [block_16_project]}]\n"
                             "log: {verbose: 0}\nrun_dir: run\ndistributed: {timeout_s: 5}\n";
  const bool another = size > 1 && rank == size - 1;
  const dft_config_source source = {
      .path = "plan.yaml", .overrides = &override, .override_count = another ? 1 : 0};
  char expected[96];
  if (rank == 0) put("plan.yaml", (const unsigned char *)text, sizeof text - 1);
  const dft_status status = dft_train(world, &source);
  CHECK(status == (size > 1 ? DFT_EUSAGE : DFT_OK), "%s: status %d", override, (int)status);
  snprintf(expected, sizeof expected, "rank %d (host %s) was started with other key=value", size - 1,
           dft_comm_host(world, size - 1));
  CHECK(size == 1 || strstr(dft_error(), expected) != NULL, " ");
}

int main(void) {
  open_world(60);
  if (rank == 0) {
    strcpy(directory, "/tmp/dft-test-share-XXXXXX");
    CHECK(mkdtemp(directory) != NULL, " ");
  }
  OK(dft_comm_bcast(world, 0, directory, sizeof directory));
  CHECK(chdir(directory) == 0, "%s", directory);
  if (rank == 0) write_files();
  OK(dft_comm_barrier(world));
  all_ranks_see_the_same("images.idx");
  all_ranks_see_the_same("images.idx.gz");
  errors_reach_all("absent.idx", "cannot open");
  errors_reach_all("short.idx.gz", "truncated");
  if (rank == 0) write_folder();
  OK(dft_comm_barrier(world));
  folders_are_listed_once();
  static const char *const others[] = {"phases.0.unfreeze=[block_16_project_BN]",
                                       "cache.mode=off",
                                       "log.trace_steps=1",
                                       "checkpoint.every_steps=1",
                                       "checkpoint.every_epochs=2",
                                       "distributed.backend=mpi",
                                       "distributed.shards=8"};
  for (size_t i = 0; i < (size > 1 ? sizeof others / sizeof *others : 1); i++)
    other_keys_are_refused(others[i]);
  OK(dft_comm_barrier(world));
  if (rank == 0) CHECK(system("rm -rf folder extra run plan.yaml") == 0, " ");
  static const char *const names[] = {"images.idx", "images.idx.gz", "short.idx.gz", "labels.idx"};
  for (int i = 0; rank == 0 && i < 4; i++) (void)unlink(names[i]);
  if (rank == 0) CHECK(chdir("/") == 0 && rmdir(directory) == 0, "%s", directory);
  dft_comm_close(world, 0);
  return 0;
}
