package main

func vector(f *file) { pause(f) }

func pause(f *file) {
	fn := f.begin("pause", "", "tells the processor that this is a spinning loop.")
	for range 4 {
		fn.op("PAUSE")
	}
	fn.op("RET")
}
