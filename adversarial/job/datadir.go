package job

// DataDir is the folder of the data sets: as asked, else TEMPER_DATA, else a
// folder of the user's own.
func DataDir(asked string) (string, error) { return dataDir(asked) }
