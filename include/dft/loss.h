/* Softmax cross-entropy, as Keras computes it from logits: loss_i = logsumexp(z_i) - z_i[label_i], in float32
 * with the maximum subtracted first; gradient softmax(z_i) - onehot. Per sample; sums are taken by the
 * caller. Pure; any thread. */
#ifndef DFT_LOSS_H
#define DFT_LOSS_H

/* Index of the first largest of `classes` values. */
int dft_argmax(const float *values, int classes);

/* probabilities[samples][classes] */
void dft_softmax(const float *logits, int samples, int classes, float *probabilities);
/* loss[samples]; dlogits[samples][classes]; correct[samples] 1 where the first largest logit is the label. */
void dft_cross_entropy(const float *logits, const int *labels, int samples, int classes, float *loss,
                       float *dlogits, unsigned char *correct);
/* The same for two labels with weights weight[i] and 1 - weight[i]: the cross-entropy with the soft label, as
 * Keras' CategoricalCrossentropy(from_logits=True). Right is the label of the larger weight, of equal ones
 * the lower: argmax of the soft label. Weight 1 gives the bits of dft_cross_entropy. */
void dft_cross_entropy_mixed(const float *logits, const int *labels, const int *others, const float *weights,
                             int samples, int classes, float *loss, float *dlogits, unsigned char *correct);

#endif
