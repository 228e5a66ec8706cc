// Package datasets turns published and own data into batches: it knows the
// sets (MNIST, CIFAR-10, CIFAR-100, SVHN, the structured patches of the paper,
// and .npz files), fetches and verifies their files, decodes them strictly,
// and streams them in a seed-determined order.
//
// A labelled set is a [Source]; [Set] is the one held in memory, and any type
// with the same few methods can stand in for it. [Open] finds a set by name,
// [Fetch] downloads it, [Verify] checks it, and a [Stream] cuts a source into
// batches with a background reader.
//
// Decoders accept exactly what the formats say and nothing else: a wrong
// magic, a truncated or too long file, a label out of range or an announced
// size that the bytes do not bear out is an error of one line that says what
// was found. No announced size is allocated before the data for it arrive.
//
// What belongs here is what touches a file, a format, the network or the order
// of examples. Augmentation and normalisation do not: they are part of the
// training graph. The package imports nothing of temper but the random-number
// generator.
package datasets
