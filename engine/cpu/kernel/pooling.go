package kernel

// KeepMax keeps the greater of each two elements in top, the first of equal
// ones, NaN if there is one, and in at where it came from: index for those of v.
func KeepMax[T Float | ~int32 | ~uint32 | ~uint8](top []T, at []int32, v []T, index int32) {
	at, v = at[:len(top)], v[:len(top)]
	if t, ok := any(top).([]float32); ok {
		active.keepMax(t, at, any(v).([]float32), index)
		return
	}
	keepMax(top, at, v, index)
}

func keepMax[T Float | ~int32 | ~uint32 | ~uint8](top []T, at []int32, v []T, index int32) {
	for i, x := range v {
		if !(x <= top[i]) && top[i] == top[i] { // the first is true for NaN too
			top[i], at[i] = x, index
		}
	}
}
