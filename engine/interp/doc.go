// Package interp is the reference interpreter: it says what every operation
// means, in loops so plain that they can be checked by reading. Back ends and
// passes are tested against it; nothing else uses it.
//
// Floating-point values of all types are computed in float64 and not rounded,
// so that fixtures computed in float64 elsewhere are met to its precision;
// RunRounded rounds each result to its type, which is what a back end is
// compared with. Integers wrap around at their own width.
//
// Where IEEE 754 leaves a choice, or says nothing:
//   - min, max, reduce-max, argmax, pooling: NaN wins, the first one. relu
//     passes NaN on; sign of NaN is 0.
//   - argsort places NaN above +Inf; -0 equals 0; equals keep their order,
//     ascending or descending.
//   - an integer divided by 0 is 0; the least i32 divided by -1 is itself.
//   - shift counts are taken as unsigned; a count of the width or more leaves 0,
//     or -1 when a negative i32 is shifted right.
//   - float to integer truncates and saturates, NaN becomes 0; integer to
//     narrower integer keeps the low bits; to bool is "not zero", so NaN is true.
//   - gather, scatter-add and the dynamic windows clamp indices into range.
package interp
