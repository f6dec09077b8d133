"""The help texts of the command line."""

HELP = """\
vidact: train video action recognition, and see what the network looks at.

usage: python -m vidact VERB [options]

  fit        train; with nothing else, the embedded default: a small synthetic set, a few minutes on a CPU
  validate   measure a checkpoint on the validation part
  test       measure a checkpoint on the test part
  predict    class probabilities of the test part's windows
  explain RUN VIDEO…        show what a trained network looks at in any video, or in a folder of them
  report RUN…               one HTML file: what a run learned, and what it looks at; opens without a network
  evaluate RUN…             measure how good explanations are; which method to trust for a checkpoint, if any
  accuracy RUN…             clips recognised, with intervals; also with frozen or shuffled frames
  inspect NETWORK           what relevance rules cannot follow in a network (my_module.Net), and what to do; 0 or 1

  data check ROOT           decode every clip once, in child processes; say which can be trusted; 0 or 1
  data split ROOT           divide by its own split, official files, source, film, clip or folds; what leaks
  data frames ROOT          compare the frames that are read with a sequential decode, and with sparse reads
  data download hmdb51 DIR  fetch HMDB51 and its split files, and unpack them
  data transcode ROOT OUT   write a small copy of a data set
  data synthesize OUT       render a synthetic set with its truth: eight motion-only classes in HMDB51's layout

  python -m vidact VERB --help     the options of a verb
  python -m vidact --version       the version
"""


TRAINER_HELP = """\
usage: python -m vidact {verb} [--config RECIPE] [options]

  --config RECIPE           a YAML file, or the name of a recipe that comes with vidact: hmdb51, hmdb51_report,
                            hmdb51_slim, hmdb51_fusion, hmdb51_recurrent, …; without it, that of the run that
                            --ckpt_path is of (not for fit), else demo
  --data.root FOLDER        <class>/*.avi or videos/<class>/*.avi; demo's is the synthetic set
  --data.*                  classes, split (source, film, official, kfold, clip, or a file), fold, num_frames, stride,
                            num_windows, size, gray, augmentation, masks, decoder, cache_gigabytes, batch_size, …
  --model.*                 network (by class_path), optimizer, lr_scheduler, lr_scheduler_interval, loss, top_k
  --relevance.*             every_n_epochs, clips_per_class, method (lrp, gradient, grad_cam, …), composite (a name
                            or a .yaml file), threshold
  --trainer.*               Lightning's Trainer: max_epochs, accelerator, devices, strategy, precision, …
  --ckpt_path FILE          a checkpoint to {purpose}; last means the last one of the run whose config is given,
                            or of the newest run
  --trust MODULES           not for fit: whose code the run's config may name, beside vidact, torch and lightning
  --print_config            every setting with its value, as YAML
  --help-all                every option, with its description (slow)

  wandb: WANDB_MODE, WANDB_PROJECT and WANDB_DIR are obeyed; without a key the run is kept offline.

  python -m vidact {verb} --config hmdb51 --data.root /data/hmdb51
"""


TRAINER_VERBS = {"fit": "go on from", "validate": "measure", "test": "measure", "predict": "use"}
