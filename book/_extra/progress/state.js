dclibProgress({});
