mod sandbox_rest;
