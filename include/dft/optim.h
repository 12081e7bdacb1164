/* Optimizers, as Keras 3 defines them, over the trainable parameters of one phase.
 *
 *   adam    alpha_t = lr*sqrt(1-b2^t)/(1-b1^t); m += (g-m)(1-b1); v += (g^2-v)(1-b2);
 *           w -= alpha_t*m/(sqrt(v)+epsilon)
 *   adamw   w -= lr*weight_decay*w, then adam
 *   sgd     momentum 0: w -= lr*g; else velocity = momentum*velocity - lr*g; w += velocity (nesterov:
 *           w += momentum*velocity - lr*g)
 * Source: keras/src/optimizers/{adam,adamw,sgd}.py (Kingma & Ba 2015, section 2's efficient form).
 *
 * A phase starts with a fresh optimizer, as Keras' compile gives. Not collective: every rank has the same
 * reduced gradient, and applies it whole or, where ranks have weights and slots together, in part. One thread
 * calls; the work is shared among the kernels' threads. Errors: DFT_EDATA of slots that do not fit, and
 * memory that is not to be had.
 */
#ifndef DFT_OPTIM_H
#define DFT_OPTIM_H

#include "dft/config.h"
#include "dft/model.h"

typedef struct dft_optimizer dft_optimizer;

/* Floats that the slots of the trainable parameters take. */
size_t dft_optimizer_slots_floats(const dft_config_optimizer *config, const dft_model *model);
/* `slots`: zeroed memory for them, aligned to 64 bytes; NULL: the optimizer's own. */
dft_status dft_optimizer_new(const dft_config_optimizer *config, dft_model *model, const dft_ops *ops,
                             float *slots, dft_optimizer **optimizer);
void dft_optimizer_free(dft_optimizer *o);

/* One update of `count` elements of `param` from `first` on, by the summed gradient of all of it; scale =
 * 1/samples. Call dft_optimizer_begin once per step first. */
void dft_optimizer_begin(dft_optimizer *o);
void dft_optimizer_apply(dft_optimizer *o, int param, const float *gradient, float scale, int64_t first,
                         int64_t count);
/* For a device's update: the rule, and alpha_t of the step to come (dft_optimizer_begin makes it the
 * current one). */
dft_update_rule dft_optimizer_rule(const dft_optimizer *o);
float dft_optimizer_next_alpha(const dft_optimizer *o);
int64_t dft_optimizer_iterations(const dft_optimizer *o);
void dft_optimizer_set_iterations(dft_optimizer *o, int64_t iterations);
/* Slot 0 or 1 of a parameter, its elements long; NULL where there is none. */
float *dft_optimizer_slot(const dft_optimizer *o, int param, int slot);

/* Slots as named tensors ("kernel/momentum", "kernel/velocity"), out into an empty list or one that an
 * earlier export of this optimizer filled, as copies, or lent to an empty one; and in. */
dft_status dft_optimizer_export(const dft_optimizer *o, bool lent, dft_weights *slots);
dft_status dft_optimizer_import(dft_optimizer *o, const dft_weights *slots, int64_t iterations);

#endif
