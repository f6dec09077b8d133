"""The help texts of `python -m vidact` and of Lightning's verbs; all other verbs build theirs from their docstrings."""

HELP = """\
vidact: train networks that recognise actions in video, and see what they look at.

usage: python -m vidact VERB [options]

Train a network (Lightning's verbs):
  fit        train and write a run folder, runs/version_<n>; without options a demo: a small synthetic set, a few
             minutes on a CPU
  validate   measure a checkpoint on the validation clips
  test       measure a checkpoint on the test clips
  predict    write class probabilities of each window of the test clips to predictions.csv

Look into a trained network (RUN is a run folder or a checkpoint):
  explain RUN VIDEO…        show what the network looks at in any video, or in a folder of them
  report RUN…               write one HTML file: what the network recognises, and what it looks at
  evaluate RUN…             measure explanations: which method can be trusted for this network, if any
  audit RUN…                say what the network leans on: the background, a cell, the border, time; a gate for CI
  accuracy RUN…             accuracy with 95 % intervals; also with frozen, shuffled or reversed frames
  inspect NETWORK           check whether a network (my_module.Net) can be explained; exit status 0 or 1
  adopt NETWORK OUT         make a run of a network that was trained elsewhere: torchvision:swin3d_t, hf:FOLDER, or
                            my_module.Net with --weights and --classes

Prepare data (ROOT is a data set's folder):
  data check ROOT           decode every clip once and list those that are damaged; exit status 0 or 1
  data split ROOT           divide into training, validation and test, and show what leaks from one to another
  data frames ROOT          check that the right frames are read from every clip; exit status 0 or 1
  data download hmdb51 DIR  download HMDB51 and its split files, and unpack them
  data transcode ROOT OUT   write a small copy of a data set, which is faster to read
  data synthesize OUT       render a synthetic data set: eight motions, with masks that show the truth

Start here:
  python -m vidact fit
  python -m vidact explain runs/version_0 my_clip.mp4
  python -m vidact fit --config hmdb51 --data.root /data/hmdb51

  python -m vidact VERB --help     the options of a verb
  python -m vidact --version       the version
"""


TRAINER_HELP = """\
usage: python -m vidact {verb} [--config RECIPE] [options]

  --config RECIPE           a YAML file, or the name of a recipe that comes with vidact: hmdb51, hmdb51_report,
                            hmdb51_slim, hmdb51_fusion, hmdb51_recurrent, …; by default the config of the run that
                            --ckpt_path belongs to (not for fit), else demo
  --data.root FOLDER        a folder with <class>/*.avi or videos/<class>/*.avi; demo renders a synthetic set
  --data.*                  classes, split (source, film, official, kfold, clip, or a file), fold, num_frames, stride,
                            num_windows, size, gray, augmentation, masks, decoder, cache_gigabytes, batch_size, …
  --model.*                 network (by class_path), optimizer, lr_scheduler, lr_scheduler_interval, loss, top_k, …
  --relevance.*             pictures of explained clips: every_n_epochs, clips_per_class, method (lrp, gradient,
                            grad_cam, …), composite (a name or a .yaml file), threshold
  --faithfulness.*          measures of explanations: every_n_epochs (0 by default, which is off), num_steps, …
  --audit.*                 what the network leans on: every_n_epochs (0 by default, which is off), sections, …
  --trainer.*               Lightning's Trainer: max_epochs, accelerator, devices, strategy, precision, …
  --ckpt_path FILE          a checkpoint to {purpose}; last means the last one of the run whose config is given,
                            or of the newest run
  --trust MODULES           not for fit: modules that the run's config may import, beside vidact, torch and lightning
  --print_config            print every setting with its value, as YAML
  --help-all                print every option with its description (slow)

  wandb: set WANDB_MODE, WANDB_PROJECT or WANDB_DIR; without a key the run is kept offline.

  python -m vidact {verb} --config hmdb51 --data.root /data/hmdb51
"""


# Lightning's verbs, each with what it does with a checkpoint.
TRAINER_VERBS = {"fit": "resume from", "validate": "measure", "test": "measure", "predict": "use"}
